"""Joslim, the methods before it, and independent training, at equal steps.

    python -m benchmarks.strategies --networks resnet14-half plain --seeds 0 1 2

trains every strategy on the images prepared by stage ``prepare``, with the settings of params.yaml
over a wider range of widths, and measures its front as stage ``front`` does. The
best sub-networks within 25, 50 and 75 % of the full cost are measured as they are sliced and after
stage ``finetune``. Strategies that learn nothing while training train once for all objectives.
``independent`` trains dense networks from scratch at Joslim's widths, for as many steps. What is
best is decided on ``val``; accuracies are of ``test``. Every finished case is a file in
``benchmarks/results/strategies`` and is not run again; an unfinished one continues from its
checkpoint. Several of these commands may run side by side. ``--table`` only prints the table and
draws the picture, ``docs/results/strategies.png``.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from torch import nn

from benchmarks import machine
from benchmarks.independent import train_independently
from benchmarks.strategies_report import FRACTIONS, INDEPENDENT, draw, hypervolume, summary
from joslim import search
from joslim.costs import Cost
from joslim.data import Images
from joslim.evaluation import measure
from joslim.finetuning import finetune
from joslim.front import BATCH, Subnetworks
from joslim.training.threads import use_suitable_threads
from pipelines.artifacts.front_table import (
    candidate_table,
    front_metrics,
    measure_all_candidates,
    parse_widths,
)
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.building import make_trainer
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.settings.params import Params
from pipelines.stages.train import training_key
from pipelines.terminal.progress import track
from pipelines.tracking.git import git

RESULTS = Path("benchmarks/results/strategies")
CHECKPOINTS = paths.STATE / "benchmarks" / "strategies"
STRATEGIES = ("joslim", "slim", "two-stage", INDEPENDENT)
MIN_WIDTH = 0.2
"""Between params.yaml's 0.42 and 1, top-1 on these images differs by no more than among seeds."""
NUM_UNIFORM = 12
NETWORKS = {"resnet14-half": ("resnet14-half", 6), "plain": ("benchmarks.plain_network:plain", 3)}
"""Name for `joslim.networks.create`, and epochs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--objectives", nargs="+", default=["macs", "memory"])
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES))
    parser.add_argument("--table", action="store_true")
    chosen = parser.parse_args()
    os.chdir(paths.root())
    if not chosen.table:
        for case in product(chosen.networks, chosen.seeds, chosen.objectives, chosen.strategies):
            network, seed, objective, strategy = case
            make = run_independent if strategy == INDEPENDENT else run
            params = settings(network, seed, objective, strategy)
            run_once(_result(network, objective, strategy, seed), partial(make, network, params))
    rows = [json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))]
    if not rows:
        raise SystemExit(f"{RESULTS} holds no results yet; run this without --table")
    table = pd.DataFrame(rows)
    print(summary(table))
    draw(table)
    print("\n" + ", ".join(f"{k} {v}" for k, v in rows[-1]["machine"].items()))


def _result(network: str, objective: str, strategy: str, seed: int) -> Path:
    return RESULTS / f"{network}-{objective}-{strategy}-{seed}.json"


def run_once(result: Path, make_row: Callable[[], dict[str, Any] | None]) -> None:
    """Make a row and write it, unless that is done or another process does it."""
    name = f"{result.parent.name}-{result.stem}"
    for folder in (CHECKPOINTS, result.parent):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(CHECKPOINTS / f"{name}.lock", blocking=False):
            if not result.exists():
                print(f"{result.stem}:", flush=True)
                if (row := make_row()) is not None:
                    draft = CHECKPOINTS / f"{name}.json"
                    draft.write_text(json.dumps(row, indent=1) + "\n")
                    draft.replace(result)
    except Timeout:
        print(f"{result.stem}: runs in another process")


def settings(network: str, seed: int, objective: str, strategy: str) -> Params:
    """Those of params.yaml for one of `NETWORKS`, over a wider range of widths."""
    params, (name, epochs) = read_params(), NETWORKS[network]
    kind = "joslim" if strategy == INDEPENDENT else strategy
    searched = params.search.model_copy(update={"strategy": kind, "objective": objective})
    built = params.network.model_copy(update={"name": name, "min_width": MIN_WIDTH})
    training = params.training.model_copy(update={"epochs": epochs})
    changed = {"seed": seed, "search": searched, "network": built, "training": training}
    return params.model_copy(update=changed)


def run(network: str, params: Params) -> dict[str, Any]:
    """Train one supernet, measure its front, and fine-tune its best at three costs."""
    info = DataInfo.load()
    trainer = make_trainer(params, params.network_spec(len(info.classes), info.mean, info.std))
    start = time.perf_counter()
    steps = trainer.run(CHECKPOINTS / _weights(params, info) / "checkpoint.pt")
    done = sum(1 for _ in track(steps, "training", position=lambda p: (p.step, p.num_steps)))
    minutes = (time.perf_counter() - start) / 60 if done == trainer.num_steps else None
    train, val, test = (load_split(split) for split in ("train", "val", "test"))
    subnetworks = Subnetworks(trainer.network, train, params.front.calibration_images)
    strategy, cost = trainer.strategy, trainer.strategy.cost
    candidates = measure_all_candidates(params, subnetworks, strategy, val)
    table = candidate_table(candidates, strategy, trainer.network)
    front = table[table["on_front"]].assign(fraction=lambda t: t["objective"] / cost.full)
    found = map(parse_widths, front["widths"])
    front["test_top1"] = [_top1(subnetworks.get(widths), test) for widths in found]
    row: dict[str, Any] = {
        "network": network, "strategy": params.search.strategy,
        "objective": params.search.objective, "seed": params.seed, "steps": trainer.num_steps,
        "commit": git("rev-parse", "--short=12", "HEAD"), "minutes": minutes,
        **front_metrics(candidates, strategy),
        "test_hypervolume": hypervolume(front, "test_top1"),
        "uniform_hypervolume": hypervolume(_uniform(subnetworks, cost, val), "val_top1"),
        "full_test_top1": _top1(subnetworks.get(trainer.network.space.full), test),
        "front": front[["fraction", "val_top1", "test_top1"]].to_dict("list"),
    }  # fmt: skip
    for fraction in FRACTIONS:
        best = front[front["fraction"] <= fraction].nlargest(1, "val_top1").iloc[0]
        widths = parse_widths(best["widths"])
        tuned = subnetworks.get(widths)
        for _ in finetune(
            tuned,
            train,
            val,
            params.training,
            epochs=params.finetune.epochs,
            learning_rate=params.finetune.learning_rate,
            seed=params.seed,
        ):
            pass
        row |= {
            f"widths_{fraction:.0%}": widths,
            f"top1_{fraction:.0%}": best["test_top1"],
            f"finetuned_{fraction:.0%}": _top1(tuned, test),
        }
    return row | {"machine": machine.describe()}


def _weights(params: Params, info: DataInfo) -> str:
    """Names the training; one that does not look at costs serves all objectives."""
    if not search.STRATEGIES[params.search.strategy].learns_while_training:
        any_objective = params.search.model_copy(update={"objective": "macs"})
        params = params.model_copy(update={"search": any_objective})
    return training_key(params, info)


def run_independent(network: str, params: Params) -> dict[str, Any] | None:
    """Train dense networks at the widths that `run` found for ``joslim``; None before that."""
    objective, seed = params.search.objective, params.seed
    found = _result(network, objective, "joslim", seed)
    if not found.exists():
        print("  waits for joslim's widths; run this again")
        return None
    joslim, info = json.loads(found.read_text()), DataInfo.load()
    supernet = params.network_spec(len(info.classes), info.mean, info.std).build()
    use_suitable_threads(supernet, params.training.batch_size)
    train, test = load_split("train"), load_split("test")
    row: dict[str, Any] = {
        "network": network, "strategy": INDEPENDENT, "objective": objective, "seed": seed,
        "steps": joslim["steps"], "commit": git("rev-parse", "--short=12", "HEAD"),
    }  # fmt: skip
    for fraction in FRACTIONS:
        alone = train_independently(
            supernet.extract(tuple(joslim[f"widths_{fraction:.0%}"])),
            train,
            params.training,
            num_steps=joslim["steps"],
            calibration_images=params.front.calibration_images,
            seed=seed,
        )
        row[f"top1_{fraction:.0%}"] = _top1(alone, test)
    return row | {"machine": machine.describe()}


def _uniform(subnetworks: Subnetworks, cost: Cost, val: Images) -> pd.DataFrame:
    """Sub-networks of one multiplier for all groups, measured as those of the front are."""
    space = subnetworks.network.space
    evenly = dict.fromkeys(space.uniform(m) for m in np.linspace(MIN_WIDTH, 1, NUM_UNIFORM))
    rows = [(cost(w) / cost.full, _top1(subnetworks.get(w), val)) for w in evenly]
    return pd.DataFrame(rows, columns=["fraction", "val_top1"])


def _top1(model: nn.Module, images: Images) -> float:
    device = next(model.parameters()).device
    return measure(model, images.batches(BATCH, device)).top1


if __name__ == "__main__":
    main()
