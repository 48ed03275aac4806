"""Whether a training that is killed again and again ends like one that is left alone.

    python -m benchmarks.resume

Runs the stages ``train`` and ``front`` on generated images once without interruption, then 20 times
with one to three kills (``kill -9`` of the process group): the first in the middle of training, the
others at any moment, from the start of the process on; half of them wait for the next checkpoint
to be written. After a kill the stage is just started again. Compares weights, history, curve,
candidates and front byte for byte (but for measured latencies) with those of the first run. Prints
a Markdown table; the exit code is 1 if anything differs.
"""

import random
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import machine, small_project
from joslim.training.checkpoint import load_checkpoint
from pipelines.settings import paths

RUNS = 20
MOST_KILLS = 3
FOLDERS = paths.STATE / "checkpoints"
RESULTS = {
    "weights": "models/supernet/*.safetensors",
    "history": "models/supernet/search.json",
    "curve": "reports/train/curves.csv",
    "candidates": "reports/front/candidates.csv",
    "front": "reports/front/front.csv",
    "front's weights": "models/front/*.safetensors",
}


@dataclass(frozen=True)
class Kill:
    """What one kill hit.

    Attributes:
        steps_repeated: Steps done that are in no checkpoint.
        while_saving: Whether a checkpoint was half-written.
    """

    steps_repeated: int
    while_saving: bool


def main() -> None:
    kills: list[Kill] = []
    identical = dict.fromkeys(RESULTS, 0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        small_project.make(root)
        seconds = train(root)
        reference = results(root)
        for seed in range(RUNS):
            kills += train_killed(root, random.Random(seed), seconds)
            for name, content in results(root).items():
                identical[name] += content == reference[name]
            print(f"after {seed + 1} runs: {len(kills)} kills, {identical}", file=sys.stderr)
    print(f"| runs | kills | while saving | steps repeated | {' | '.join(RESULTS)} |")
    print("|---:|---:|---:|---:|" + "---|" * len(RESULTS))
    repeated, saving = (sum(values) for values in zip(*map(astuple, kills), strict=True))
    counts = " | ".join(f"{count} identical" for count in identical.values())
    print(f"| {RUNS} | {len(kills)} | {saving} | {repeated} | {counts} |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))
    sys.exit(any(count < RUNS for count in identical.values()))


def train(root: Path) -> tuple[float, float]:
    """Train without interruption; the seconds from the process's start, and from the first step."""
    start = time.monotonic()
    process = small_project.start(root, "train")
    small_project.wait_until(process, lambda: bool(steps_done(root)))
    first_step = time.monotonic()
    small_project.finish(process, root)
    return time.monotonic() - start, time.monotonic() - first_step


def train_killed(root: Path, rng: random.Random, seconds: tuple[float, float]) -> list[Kill]:
    """Train to the end with kills; ``seconds`` are those of `train`."""
    whole, from_first_step = seconds
    wanted = rng.randint(1, MOST_KILLS)
    kills: list[Kill] = []
    while True:
        before, started = steps_done(root), time.time()
        process = small_project.start(root, "train")
        if len(kills) < wanted:
            if not kills:
                small_project.wait_until(process, lambda: bool(steps_done(root)))
            time.sleep(rng.uniform(0, whole if kills else 0.8 * from_first_step))
            if rng.random() < 0.5:
                small_project.wait_until(process, partial(is_saving, root, started))
            if process.poll() is None:
                small_project.kill(process)
                steps = steps_done(root)
                lost = steps[-1] - step_saved(root) if steps != before else 0
                kills.append(Kill(lost, is_saving(root, started)))
                continue
        small_project.finish(process, root)
        return kills


def is_saving(root: Path, since: float) -> bool:
    """Whether there is the draft of a checkpoint, begun after ``since``."""
    with suppress(FileNotFoundError):
        return any(d.stat().st_mtime >= since for d in (root / FOLDERS).glob("*/*.tmp"))
    return False


def steps_done(root: Path) -> list[int]:
    """In order; the last one only if the training was killed after its end."""
    for file in (root / FOLDERS).glob("*/curve.jsonl"):
        return list(map(int, re.findall(r'"step": (\d+)', file.read_text())))
    curve = root / paths.TRAIN_REPORT / "curves.csv"
    return [int(curve.read_text().splitlines()[-1].partition(",")[0])] if curve.exists() else []


def step_saved(root: Path) -> int:
    """In the last checkpoint."""
    for folder in (root / FOLDERS).iterdir():
        state = load_checkpoint(folder / "checkpoint.pt")
        return state["step"] if state else 0
    return 0


def results(root: Path) -> dict[str, list[bytes]]:
    """Run stage ``front``; what it and ``train`` left, which is moved out of the way."""
    small_project.finish(small_project.start(root, "front"), root)
    table = root / paths.FRONT_REPORT / "front.csv"
    pd.read_csv(table, dtype=str).drop(columns=["latency_ms", "latency_spread"]).to_csv(
        table, index=False
    )
    found = {name: sorted(root.glob(pattern)) for name, pattern in RESULTS.items()}
    contents = {name: [file.read_bytes() for file in files] for name, files in found.items()}
    for name in ("models", "reports"):
        shutil.rmtree(root / name)
    return contents


if __name__ == "__main__":
    main()
