"""Joslim, the methods before it, and independent training, at equal steps.

    python -m benchmarks.strategies --seeds 0 1 2 --objectives macs memory

trains every strategy on the images prepared by stage ``prepare``, with the settings of params.yaml,
measures its front as stage ``front`` does, and then trains a dense network from scratch at the
widths of the best sub-networks within 25, 50 and 75 % of the full cost, for as many steps. What is
best is decided on ``val``; accuracies are of ``test``. Every finished case is a file in
``benchmarks/results/strategies`` and is not run again; an unfinished one continues from its
checkpoint. Several of these commands may run side by side. ``--table`` only prints the tables.
"""

import argparse
import json
import os
import time
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from torch import nn

from benchmarks import machine
from benchmarks.independent import train_independently
from joslim.evaluation import measure
from pipelines import paths
from pipelines.front import BATCH, Subnetworks, front_metrics, measure_candidates, parse_widths
from pipelines.git import git
from pipelines.params import read_params
from pipelines.prepare import DataInfo, load_split
from pipelines.progress import track
from pipelines.train import make_trainer, training_key

RESULTS = Path("benchmarks/results/strategies")
CHECKPOINTS = paths.STATE / "benchmarks" / "strategies"
STRATEGIES = ("joslim", "slim", "two-stage")
FRACTIONS = (0.25, 0.5, 0.75)
"""Of the full network's cost."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--objectives", nargs="+", default=["macs", "memory"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    os.chdir(paths.root())
    if not chosen.table:
        RESULTS.mkdir(parents=True, exist_ok=True)
        for case in product(chosen.seeds, chosen.objectives, chosen.strategies):
            run_once(*case)
    rows = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    if not rows:
        raise SystemExit(f"{RESULTS} holds no results yet; run this without --table")
    print(summary(pd.DataFrame(rows)))
    print("\n" + ", ".join(f"{k} {v}" for k, v in rows[-1]["machine"].items()))


def run_once(seed: int, objective: str, strategy: str) -> None:
    """Run a case, unless it is finished or another process runs it."""
    name = f"{objective}-{strategy}-{seed}"
    result = RESULTS / f"{name}.json"
    CHECKPOINTS.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(CHECKPOINTS / f"{name}.lock", blocking=False):
            if not result.exists():
                print(f"{name}:", flush=True)
                row = run(seed, objective, strategy)
                draft = CHECKPOINTS / result.name
                draft.write_text(json.dumps(row, indent=1) + "\n")
                draft.replace(result)
    except Timeout:
        print(f"{name}: runs in another process")


def run(seed: int, objective: str, strategy: str) -> dict[str, Any]:
    """Train one supernet, measure its front, and compare with independent training."""
    params, info = read_params(), DataInfo.load()
    drawn = params.search.model_copy(update={"strategy": strategy, "objective": objective})
    params = params.model_copy(update={"seed": seed, "search": drawn})
    trainer = make_trainer(params, params.network_spec(len(info.classes), info.mean, info.std))
    start = time.perf_counter()
    steps = trainer.run(CHECKPOINTS / training_key(params, info) / "checkpoint.pt")
    for _ in track(steps, "training", position=lambda p: (p.step, p.num_steps)):
        pass
    minutes = (time.perf_counter() - start) / 60
    train, val, test = (load_split(split) for split in ("train", "val", "test"))
    subnetworks = Subnetworks(trainer.network, train, params.front.calibration_images)
    cost = trainer.strategy.cost
    table = measure_candidates(subnetworks, trainer.strategy, val, params.front)
    front = table[table["on_front"]]
    row: dict[str, Any] = {
        "strategy": strategy, "objective": objective, "seed": seed, "steps": trainer.num_steps,
        "commit": git("rev-parse", "--short=12", "HEAD"), "minutes": minutes,
        **front_metrics(table, cost),
    }  # fmt: skip
    full = subnetworks.get(trainer.network.space.full)
    row["full_test_top1"] = measure(full, test.batches(BATCH)).top1
    for fraction in FRACTIONS:
        within = front[front["objective"] <= fraction * cost.full]
        widths = parse_widths(within.loc[within["val_top1"].idxmax(), "widths"])
        alone = train_independently(
            trainer.network.extract(widths),
            train,
            params.training,
            num_steps=trainer.num_steps,
            calibration_images=params.front.calibration_images,
            seed=seed,
        )
        row |= {
            f"top1_{fraction:.0%}": _top1(subnetworks.get(widths), test),
            f"independent_{fraction:.0%}": _top1(alone, test),
            f"widths_{fraction:.0%}": widths,
        }
    return row | {"machine": machine.describe()}


def _top1(model: nn.Module, images: Any) -> float:
    return measure(model, images.batches(BATCH)).top1


def summary(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds, by objective and strategy, in Markdown."""
    for fraction in FRACTIONS:
        name = f"{fraction:.0%}"
        rows[f"gap_{name}"] = rows[f"independent_{name}"] - rows[f"top1_{name}"]
    rows["gap"] = rows[[f"gap_{fraction:.0%}" for fraction in FRACTIONS]].mean(axis=1)
    head = [f"top-1 at {fraction:.0%}" for fraction in FRACTIONS]
    lines = [
        f"| objective | strategy | seeds | hypervolume | {' | '.join(head)} | gap to independent "
        "training, points | minutes |",
        "|---|---|---:|---:|" + "---:|" * (len(head) + 2),
    ]
    for (objective, strategy), found in rows.groupby(["objective", "strategy"]):
        cells = [objective, strategy, str(len(found)), _spread(found["hypervolume"], 1, 4)]
        cells += [_spread(found[f"top1_{f:.0%}"], 100, 2) for f in FRACTIONS]
        cells += [_spread(found["gap"], 100, 2), _spread(found["minutes"], 1, 1)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _spread(values: pd.Series, scale: float, digits: int) -> str:
    deviation = f" ± {scale * values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{deviation}"


if __name__ == "__main__":
    main()
