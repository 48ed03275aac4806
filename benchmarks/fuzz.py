"""Whether odd, damaged or hostile files get another answer than an error of this project's.

    python -m benchmarks.fuzz [--examples 5000]

Hypothesis changes files that this project reads: values of other types, huge, missing and more, and
bytes. Their digests are made anew, so that what comes after them is tried as well. Prints how many
were read and how many refused; anything but a `JoslimError` (of a bundle's script, which stands
alone, a `SystemExit`) ends the run with the smallest example of it.
"""

import argparse
import copy
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import joslim
from benchmarks import machine
from joslim.budgets import parse_budget, parse_limits
from joslim.costs import COSTS
from joslim.costs.profile import Profile
from joslim.errors import JoslimError
from joslim.shipping import run_bundle
from joslim.supernet import Configuration, NetworkSpec, save_slimmable
from joslim.supernet.saved_spec import DIGEST, SPEC, WEIGHTS, signed
from joslim.supernet.storage import digest
from pipelines.settings import paths
from pipelines.settings.loading import read_params

NETWORK = NetworkSpec("resnet8-half", 10, 1, 12, (0.3,), (0.2,), min_width=0.25)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
ODD = JSON | st.sampled_from(
    [0, -1, 1, 3, 10**12, 10**400, 1e-320, 1e308, "", "0", "resnet8", "resnet20", "torchvision:x",
     "timm:hf_hub:x/y", "os:system", "joslim.networks:create", "macs", "50%", "../x", "w-0",
     "\x1b[2J", "\ud800", [[]], {"": {}}]
)  # fmt: skip

AMOUNT = r"[0-9.e+-]{1,6} ?(%|k|M|G|ms|MiB)?"

Read = Callable[[Any], object]

QUICK = ("budgets", "budgets of params.yaml", "profiles/NAME.json", "bundle.json")
"""What builds no network."""


@st.composite
def changed(draw: st.DrawFn, content: Any) -> Any:
    """``content`` with one to three values of it replaced, removed or added."""
    content = copy.deepcopy(content)
    for _ in range(draw(st.integers(1, 3))):
        node = content
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys)) if keys else 0
            inner = node[key] if keys else None
            if not (isinstance(inner, dict | list) and inner and draw(st.booleans())):
                break
            node = inner
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove" and keys:
            del node[key]
        elif isinstance(node, list) and (action == "add" or not keys):
            node.append(copy.deepcopy(draw(ODD)))
        else:
            node[draw(st.text(max_size=8)) if action == "add" else key] = copy.deepcopy(draw(ODD))
    return content


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """``content`` cut short, or with some bytes of it changed; most of them near its ends."""
    found = bytearray(content[: draw(st.integers(0, len(content)))])
    if draw(st.booleans()):
        found = bytearray(content)
    near = st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, len(content) - 1)
    for place, value in draw(st.lists(st.tuples(near, st.integers(0, 255)), max_size=4)):
        if -len(found) <= place < len(found):
            found[place] = value
    return bytes(found)


class Files:
    """One of each file that is read, sound, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.saved, self.weights = folder / "saved", folder / "weights.pt"
        self.params, self.profile = folder / "params.yaml", folder / "here.json"
        self.bundle = folder / "bundle.json"
        network = NETWORK.build().eval()
        numbers = {"macs": float(COSTS["macs"](network).full), "val_top1": 0.9}
        kept = [
            (Configuration(name, widths, numbers), network.extract(widths))
            for name, widths in (("w-0", network.space.smallest), ("w-1", network.space.full))
        ]
        save_slimmable(self.saved, network, NETWORK, kept, numbers)
        torch.save(network.model.get_submodule("network").state_dict(), self.weights)
        self.settings = yaml.safe_load((paths.root() / paths.PARAMS).read_text())
        widths = [list(configuration.widths) for configuration, _ in kept]
        groups = [group.name for group in network.space.groups]
        rows = [{"id": f"w-{i}", "widths": w, "macs": 9.0} for i, w in enumerate(widths)]
        timed = [{**row, "latency_ms": 1.5} for row in rows]
        self.profiled = {"device": "a toy", "groups": groups, "configurations": timed}
        run = [{**row, "file": f"{row['id']}.onnx", "val_top1": 0.9} for row in rows]
        self.described = {"input_shape": [1, 12, 12], "groups": groups, "full": numbers}
        self.described["configurations"] = run

    def targets(self) -> dict[str, tuple[st.SearchStrategy[Any], Read]]:
        """What is tried: changes of a file's content, and how that is read."""
        spec, configurations, weights = (
            self.saved / name for name in (SPEC, "configurations.json", WEIGHTS)
        )
        limits = st.text(max_size=12) | st.from_regex(AMOUNT, fullmatch=True) | ODD
        names = st.sampled_from(["macs", "latency", "memory", "latency@pi"]) | st.text(max_size=8)
        return {
            SPEC: (changed(_content(spec)), partial(self._load, spec)),
            configurations.name: (
                changed(_content(configurations)),
                partial(self._load, configurations),
            ),
            f"{WEIGHTS}, its header": (
                changed(_header(weights)),
                partial(self._load_header, weights, weights.read_bytes(), spec.read_text()),
            ),
            f"{WEIGHTS}, its bytes": (
                damaged(weights.read_bytes()),
                partial(self._load_bytes, weights, weights.read_bytes(), spec.read_text()),
            ),
            "pretrained weights.pt": (
                damaged(self.weights.read_bytes()),
                self._start_from,
            ),
            "params.yaml": (
                changed(self.settings).map(_yaml) | st.text(max_size=40),
                self._read_params,
            ),
            "budgets": (
                st.text(max_size=20)
                | st.tuples(names, limits).map(lambda pair: f"{pair[0]}={pair[1]}"),
                lambda text: [limit.resolve(1e6) for limit in parse_budget(text)],
            ),
            "budgets of params.yaml": (
                st.dictionaries(names, limits, max_size=3) | JSON,
                lambda content: [limit.resolve(1e6) for limit in parse_limits(content)],
            ),
            "profiles/NAME.json": (
                changed(self.profiled) | JSON,
                lambda content: Profile.load(_written(self.profile, content)),
            ),
            "bundle.json": (
                changed(self.described) | JSON,
                lambda content: run_bundle.choose(
                    "macs=100%", _written(self.bundle, content).parent
                ),
            ),
        }

    def _load(self, file: Path, content: Any) -> object:
        before = file.read_text()
        if isinstance(content, dict):
            content = signed({k: v for k, v in content.items() if k != DIGEST})
        try:
            return joslim.load(_written(file, content).parent)
        finally:
            file.write_text(before)

    def _load_header(self, file: Path, before: bytes, spec: str, header: Any) -> object:
        text = json.dumps(header).encode()
        size = int.from_bytes(before[:8], "little")
        content = len(text).to_bytes(8, "little") + text + before[8 + size :]
        return self._load_bytes(file, before, spec, content)

    def _load_bytes(self, file: Path, before: bytes, spec: str, content: bytes) -> object:
        file.write_bytes(content)
        try:
            return self._load(file.with_name(SPEC), {**json.loads(spec), WEIGHTS: digest(file)})
        finally:
            file.write_bytes(before)
            file.with_name(SPEC).write_text(spec)

    def _start_from(self, content: bytes) -> object:
        file = self.weights.with_name("odd.pt")
        file.write_bytes(content)
        return joslim.networks.create(NETWORK.network, 10, 1, weights=str(file))

    def _read_params(self, text: str) -> object:
        self.params.write_bytes(text.encode(errors="surrogatepass"))
        return read_params(self.params)


def _content(file: Path) -> Any:
    return json.loads(file.read_text())


def _header(file: Path) -> Any:
    content = file.read_bytes()
    return json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])


def _written(file: Path, content: Any) -> Path:
    file.write_text(json.dumps(content))
    return file


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content)


def counts(inputs: st.SearchStrategy[Any], read: Read, examples: int) -> Counter[str]:
    """How many of so many inputs were read and refused; the same at each call.

    Raises:
        Exception: Whatever else came of one, the smallest that was found.
    """
    found: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(inputs)
    def attempt(content: Any) -> None:
        try:
            read(content)
            found["read"] += 1
        except (JoslimError, SystemExit):
            found["refused"] += 1

    attempt()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--examples",
        type=int,
        default=5_000,
        help="of each file; five times as many where no network is built",
    )
    examples = parser.parse_args().examples
    print("| file | examples | read | refused |\n|---|---:|---:|---:|")
    total = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, (inputs, read) in Files(Path(folder)).targets().items():
            found = counts(inputs, read, 5 * examples if name in QUICK else examples)
            total += found.total()
            cells = (found.total(), found["read"], found["refused"])
            print(f"| {name} |", " | ".join(f"{cell:,}" for cell in cells), "|", flush=True)
    print(f"\n{total:,} examples; nothing but errors of this project's")
    print(", ".join(f"{key} {value}" for key, value in machine.describe().items()))


if __name__ == "__main__":
    main()
