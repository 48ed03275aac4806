"""Stage ``evaluate``: measure one budget's model on ``test``, before and after fine-tuning."""

import json
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd
import typer

from joslim.budgets import stated
from joslim.data import Images
from joslim.evaluation import Measurement, measurement, predict
from joslim.machine.device import training_device
from joslim.supernet.artifact import load_slimmable
from pipelines import tracking
from pipelines.artifacts import mistakes
from pipelines.artifacts.budget_model import BudgetModel
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.pictures import plot_confusion
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console

BATCH = 512


def main(budget: str) -> None:
    allow = load_params().network.own_code
    info, test = DataInfo.load(), load_split("test")
    model, front = BudgetModel.load(budget), load_slimmable(paths.FRONT, allow=allow)
    row = pd.read_csv(paths.FRONT_REPORT / "front.csv", index_col="id").loc[[model.front_id]]
    with tracking.stage_run(
        f"evaluate@{budget}", params=asdict(model), data_digest=info.digest
    ) as run:
        device = training_device()
        sliced, tuned = (
            predict(network.to(device), test.batches(BATCH, device))
            for network in (front.extract(model.front_id), model.network(front, allow=allow))
        )
        before, after = measurement(*sliced), measurement(*tuned)
        metrics = {
            "budget": budget,
            "front_id": model.front_id,
            "limits": model.limits,
            "private": model.private,
            # Fine-tuning changes weights only.
            **{q.column: row[q.column].item() for q in stated(row.columns)},
            "val_top1": model.val_top1,
            "slice": before.numbers(),
            "finetuned": after.numbers(),
        }
        surest = mistakes.surest(*tuned, info.classes)
        _write(budget, metrics, after, info.classes, surest, test)
        run.metrics({f"test_{name}": value for name, value in after.numbers().items()})
        run.metrics({f"test_{name}_slice": value for name, value in before.numbers().items()})
        run.headline({f"{budget}.test_top1": after.top1})
        run.artifact(paths.EVALUATE / budget)
    change = "" if model.private == "nothing" else f", {after.top1:.2%} fine-tuned"
    console.print(f"budget '{budget}': test top-1 {before.top1:.2%} as sliced{change}")


def _write(
    budget: str,
    metrics: dict[str, object],
    result: Measurement,
    classes: tuple[str, ...],
    surest: Sequence[mistakes.Mistake],
    test: Images,
) -> None:
    folder = paths.EVALUATE / budget
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")
    counts = pd.DataFrame(result.confusion.numpy(), index=classes, columns=classes)
    counts.to_csv(folder / "confusion.csv", index_label="label")
    plot_confusion(result.confusion, classes, folder / "confusion.png")
    mistakes.save(folder, surest, test)


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
