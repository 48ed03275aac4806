"""What fine-tuning for a budget gains, by how much of a network is private to the budget.

    python -m benchmarks.finetuning CHECKOUT [CHECKOUT ...]

Each checkout has run `dvc repro front`, with a seed of its own. For each of its budgets the
sub-network of the front with the best validation top-1 is trained on for `finetune.epochs` with
`finetune.learning_rate`, in every variant from the same start. Printed are top-1 on ``test`` and
the gain over the slice as it is, as means over checkouts and budgets with the standard deviation of
a checkout's mean; and the private parameters, relative to the full network's. ``--slices`` measures
the slices only.
"""

import argparse
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks import machine
from joslim.evaluation import measure
from joslim.finetuning import finetune
from joslim.supernet.artifact import load_slimmable
from joslim.supernet.private import Private, private_parameters
from pipelines.artifacts.files import read_json
from pipelines.artifacts.prepared_data import load_split
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.stages.finetune import choose
from pipelines.terminal.progress import track

VARIANTS: list[tuple[Private, float]] = [
    ("norms", 0.0),
    ("norms-and-classifier", 0.0),
    ("norms-and-classifier", 0.5),
    ("all", 0.0),
    ("all", 0.5),
]
BATCH = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkouts", nargs="+", type=Path)
    parser.add_argument("--slices", action="store_true")
    arguments = parser.parse_args()
    checkouts = [checkout.resolve() for checkout in arguments.checkouts]
    variants = [] if arguments.slices else VARIANTS
    torch.set_num_threads(1)
    rows = pd.DataFrame([row for checkout in checkouts for row in _measured(checkout, variants)])
    print("| epochs | private | distilled | top-1 on test | gain | private parameters |")
    print("|---:|---|---:|---:|---:|---:|")
    for (epochs, private, distilled), found in rows.groupby(
        ["epochs", "private", "distilled"], sort=False
    ):
        means = found.groupby("checkout")[["top1", "gain"]].mean()
        spread = statistics.stdev(means["gain"]) if len(means) > 1 else 0.0
        gain = f"{100 * means['gain'].mean():+.2f} ± {100 * spread:.2f}"
        shown = [f"{epochs}", private, f"{distilled:g}", f"{means['top1'].mean():.2%}", gain]
        print("|", " | ".join([*shown, f"{found['share'].mean():.2%}"]), "|")
    print(f"\n{len(checkouts)} checkouts, {len(rows.groupby(['checkout', 'budget']))} slices;")
    print(", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def _measured(checkout: Path, variants: Sequence[tuple[Private, float]]) -> list[dict[str, Any]]:
    os.chdir(checkout)
    params, model = read_params(), load_slimmable(paths.FRONT)
    front = pd.read_csv(paths.FRONT_REPORT / "front.csv")
    full = read_json(paths.FRONT_REPORT / "full.json")
    train, val, test = load_split("train"), load_split("val").kept(), load_split("test")
    teacher_id = max(model.configurations, key=lambda c: c.numbers["macs"]).id
    image = torch.zeros(2, *model.input_shape)
    rows = []
    for budget in params.budgets:
        chosen = choose(front, params.budget(budget), full, budget)
        start = measure(model.extract(chosen), test.batches(BATCH)).top1
        row = {"checkout": checkout.name, "budget": budget, "epochs": params.training.epochs}
        rows.append({**row, "private": "nothing", "distilled": 0.0, "top1": start, "gain": 0.0})
        rows[-1]["share"] = 0.0
        for private, weight in variants:
            network = model.extract(chosen)
            names = private_parameters(network, private, image)
            steps = finetune(
                network,
                train,
                val,
                params.training,
                epochs=params.finetune.epochs,
                learning_rate=params.finetune.learning_rate,
                seed=params.seed,
                parameters=names,
                teacher=model.extract(teacher_id) if weight else None,
                distillation_weight=weight,
            )
            title = f"{checkout.name} {budget} {private} {weight:g}"
            for _ in track(steps, title, position=lambda step: (step.step, step.num_steps)):
                pass
            top1 = measure(network, test.batches(BATCH)).top1
            size = sum(network.get_parameter(name).numel() for name in names)
            own = {"private": private, "distilled": weight, "top1": top1, "gain": top1 - start}
            rows.append({**row, **own, "share": size / full["params"]})
    return rows


if __name__ == "__main__":
    main()
