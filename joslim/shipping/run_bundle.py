"""Run a bundle of ONNX files within a budget, or time it; needs onnxruntime and numpy only.

    python run.py IMAGES.npy --budget macs=50%
    python run.py --profile NAME.json

IMAGES.npy holds images in [0, 1], float32 of (batch, channels, height, width). Prints the class of
each. In a program: ``session = load("macs=50%")``, then
``session.run(None, {"images": images})``.
"""

import argparse
import json
import math
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

if __package__:
    from joslim.machine.turns import processor, time_in_turns, today
else:  # in a bundle, where both files are copies
    from turns import processor, time_in_turns, today  # type: ignore[import-not-found,no-redef]

HERE = Path(__file__).resolve().parent
COUNTS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
BYTES = {
    "": 1, "b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
QUANTITIES: dict[str, tuple[str, dict[str, float]]] = {
    "macs": ("macs", COUNTS),
    "params": ("params", COUNTS),
    "memory": ("memory_bytes", BYTES),
    "latency": ("latency_ms", {"us": 1e-3, "ms": 1.0, "s": 1e3}),
}
LIMIT = re.compile(
    r"\s*(\w+)(@[a-z][a-z0-9_]*)?\s*=\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*([a-z%]*)\s*"
)
COSTS = ("macs", "params", "memory_bytes")
NOT_AS_EXPECTED = (ValueError, TypeError, AttributeError, LookupError, OverflowError)
"""What Python says of content of another form."""
MOST_VALUES = 2**26
"""Numbers that make up an image."""


def load(budget: str, folder: Path = HERE) -> Any:
    """A session of ONNX Runtime, of the configuration with the best ``val_top1`` within ``budget``.

    Args:
        budget: As ``macs=50%``, ``macs=2M,memory=400KiB`` or a configuration's id.
        folder: The bundle.
    """
    return _session(folder / choose(budget, folder)["file"])


def choose(budget: str, folder: Path = HERE) -> dict[str, Any]:
    """The entry of ``bundle.json`` that `load` takes."""
    bundle = read(folder)
    entries: list[dict[str, Any]] = bundle["configurations"]
    for entry in entries:
        if entry["id"] == budget:
            return entry
    limits = dict(_limit(part, bundle["full"]) for part in budget.split(","))
    within = [
        entry
        for entry in entries
        if all(entry.get(column, np.inf) <= most for column, most in limits.items())
    ]
    if not within:
        least = ", ".join(f"{c} from {min(e.get(c, np.inf) for e in entries):g}" for c in limits)
        raise SystemExit(f"nothing is within {budget}; there is {least}")
    return max(within, key=lambda entry: entry["val_top1"])


def read(folder: Path = HERE) -> dict[str, Any]:
    """The content of ``bundle.json``.

    Raises:
        SystemExit: If it is missing or damaged.
    """
    file = folder / "bundle.json"
    try:
        bundle: dict[str, Any] = json.loads(file.read_text())
        entries, full, shape = bundle["configurations"], bundle["full"], bundle["input_shape"]
        numbers = [*full.values(), *(entry["val_top1"] for entry in entries)]
        numbers += [v for e in entries for k, v in e.items() if k not in ("id", "file", "widths")]
        sizes = [*shape, *(width for entry in entries for width in entry["widths"])]
        sound = (
            len(entries) > 0
            and len(shape) == 3
            and all(type(size) is int and size > 0 for size in sizes)
            and math.prod(shape) <= MOST_VALUES
            and all(type(n) in (int, float) and math.isfinite(n) for n in numbers)
            and all(isinstance(group, str) for group in bundle["groups"])
            and all(re.fullmatch(r"\w[\w.:-]*", entry["id"]) for entry in entries)
            and all(entry["file"] == f"{entry['id']}.onnx" for entry in entries)
            and all(len(entry["widths"]) == len(bundle["groups"]) for entry in entries)
        )
    except (OSError, RecursionError, *NOT_AS_EXPECTED) as error:
        raise SystemExit(f"{file} cannot be read: {error!r}") from error
    if not sound:
        raise SystemExit(f"{file} is damaged: its sizes, numbers or names are no bundle's")
    return bundle


def _session(file: Path, options: Any = None) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(file, options)
    except Exception as error:  # ONNX Runtime's own have no common base
        raise SystemExit(f"{file} cannot be read: {error}") from error


def _limit(text: str, full: dict[str, float]) -> tuple[str, float]:
    """The column and the most of it that ``macs=50%`` and the like allow."""
    found = LIMIT.fullmatch(text.lower())
    column, units = QUANTITIES.get(found[1], ("", {})) if found else ("", {})
    if not found or (found[2] and found[1] != "latency") or found[4] not in {"%", *units}:
        raise SystemExit(f"budget is {text!r}; expected such as macs=50%, memory=400KiB, or an id")
    column, amount = column + (found[2] or "").replace("@", "_"), float(found[3])
    if found[4] != "%":
        return column, amount * units[found[4]]
    if column not in full:
        raise SystemExit(f"budget is {text!r}, but the full network's {column} is not known")
    return column, amount * full[column] / 100


def profile(threads: int = 1, folder: Path = HERE) -> dict[str, Any]:
    """Time every configuration: milliseconds for one image, measured in turns.

    ``latency_ms`` is the median, ``latency_spread`` the distance of the quartiles relative to it,
    and ``latency_doubt`` says why it may be too long, if anything speaks for it.

    Args:
        threads: Of ONNX Runtime.
        folder: The bundle.
    """
    import onnxruntime

    bundle = read(folder)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    image = np.random.default_rng(0).random((1, *bundle["input_shape"]), np.float32)
    entries = bundle["configurations"]
    calls = {
        e["id"]: partial(_session(folder / e["file"], options).run, None, {"images": image})
        for e in entries
    }
    known = [column for column in COSTS if all(column in e for e in entries)]
    timings = time_in_turns(calls, {e["id"]: [e[column] for column in known] for e in entries})
    count = f"{threads} thread{'s' if threads > 1 else ''}"
    return {
        "device": f"{processor()}, onnxruntime {onnxruntime.__version__}, {count}",
        "date": today(),
        "groups": bundle["groups"],
        "configurations": [
            {key: entry[key] for key in ("id", "widths", "macs")}
            | {
                "latency_ms": round(timings[entry["id"]].milliseconds, 4),
                "latency_spread": round(timings[entry["id"]].spread, 4),
                "latency_doubt": timings[entry["id"]].doubt,
            }
            for entry in entries
        ],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--budget", default="macs=100%")
    parser.add_argument("--profile", type=Path, metavar="NAME.json", help="time all, write here")
    parser.add_argument("--threads", type=int, default=1, help="of --profile")
    arguments = parser.parse_args()
    if arguments.profile is not None:
        found = profile(arguments.threads)
        arguments.profile.write_text(json.dumps(found, indent=1) + "\n")
        for one in found["configurations"]:
            if one["latency_doubt"]:
                print(f"{one['id']} may be faster: {one['latency_doubt']}")
        print(f"{found['device']}, {found['date']} -> {arguments.profile}")
        return
    if arguments.images is None:
        parser.error("IMAGES.npy is missing")
    images = np.load(arguments.images).astype(np.float32)
    (logits,) = load(arguments.budget).run(None, {"images": images})
    print(f"{choose(arguments.budget)['id']}: classes {logits.argmax(1).tolist()}")


if __name__ == "__main__":
    main()
