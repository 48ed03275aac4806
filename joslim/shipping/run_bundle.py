"""Run a bundle of ONNX files within a budget; needs onnxruntime and numpy only.

    python run.py IMAGES.npy --budget macs=50%

IMAGES.npy holds images in [0, 1], float32 of (batch, channels, height, width). Prints the class of
each. In a program: ``session = load("macs=50%")``, then
``session.run(None, {"images": images})``.
"""

import argparse
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
COLUMNS = {"macs": "macs", "params": "params", "memory": "memory_bytes", "latency": "latency_ms"}
UNITS = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30, "ms": 1}


def load(budget: str, folder: Path = HERE) -> Any:
    """A session of ONNX Runtime, of the configuration with the best ``val_top1`` within ``budget``.

    Args:
        budget: As ``macs=50%``, ``macs=2M,memory=400KiB`` or a configuration's id.
        folder: The bundle.
    """
    import onnxruntime

    return onnxruntime.InferenceSession(folder / choose(budget, folder)["file"])


def choose(budget: str, folder: Path = HERE) -> dict[str, Any]:
    """The entry of ``bundle.json`` that `load` takes."""
    bundle = json.loads((folder / "bundle.json").read_text())
    entries: list[dict[str, Any]] = bundle["configurations"]
    for entry in entries:
        if entry["id"] == budget:
            return entry
    limits = {}
    for part in budget.split(","):
        found = re.fullmatch(r"\s*(\w+)\s*=\s*([\d.]+)\s*([a-z]*|%)\s*", part.lower())
        if found is None or found[1] not in COLUMNS or found[3] not in {"%", *UNITS}:
            raise SystemExit(
                f"budget is {part!r}; expected such as macs=50%, memory=400KiB, or an id"
            )
        column, amount = COLUMNS[found[1]], float(found[2])
        is_percent = found[3] == "%"
        limits[column] = amount * (bundle["full"][column] / 100 if is_percent else UNITS[found[3]])
    within = [
        entry
        for entry in entries
        if all(entry.get(column, np.inf) <= most for column, most in limits.items())
    ]
    if not within:
        least = ", ".join(f"{c} from {min(e.get(c, np.inf) for e in entries):g}" for c in limits)
        raise SystemExit(f"nothing is within {budget}; there is {least}")
    return max(within, key=lambda entry: entry["val_top1"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("images", type=Path)
    parser.add_argument("--budget", default="macs=100%")
    arguments = parser.parse_args()
    images = np.load(arguments.images).astype(np.float32)
    (logits,) = load(arguments.budget).run(None, {"images": images})
    print(f"{choose(arguments.budget)['id']}: classes {logits.argmax(1).tolist()}")


if __name__ == "__main__":
    main()
