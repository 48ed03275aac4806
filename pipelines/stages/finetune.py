"""Stage ``finetune``: choose the best sub-network within one budget and train it on."""

import shutil
from dataclasses import replace

import pandas as pd
import torch
import typer

from joslim import pareto
from joslim.budgets import Budget
from joslim.errors import BudgetError
from joslim.finetuning import finetune
from joslim.supernet.storage import load_subnetwork, save_subnetwork
from joslim.training.threads import use_suitable_threads
from pipelines import tracking
from pipelines.artifacts.files import read_json
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track


def main(budget: str) -> None:
    params = load_params()
    info = DataInfo.load_for(params)
    logged = {
        "budget": {budget: params.budgets[budget]},
        "finetune": params.finetune.model_dump(),
    }
    with tracking.stage_run(
        f"finetune@{budget}", params=logged, data_digest=info.digest, system_metrics=True
    ) as run:
        front = pd.read_csv(paths.FRONT_REPORT / "front.csv")
        full_costs = read_json(paths.FRONT_REPORT / "full.json")
        chosen = choose(front, params.budget(budget), full_costs, budget)
        subnetwork = load_subnetwork(paths.FRONT / chosen)
        use_suitable_threads(subnetwork.spec.build(), params.training.batch_size)
        step = None
        for step in track(
            finetune(
                subnetwork.model,
                load_split("train"),
                load_split("val").kept(),
                params.training,
                epochs=params.finetune.epochs,
                learning_rate=params.finetune.learning_rate,
                seed=params.seed,
            ),
            f"fine-tuning {budget}",
            describe=lambda p: f"loss {p.loss:.3f}, val {p.val_top1:.2%}",
            position=lambda p: (p.step, p.num_steps),
        ):
            if step.step % 10 == 0:
                run.metrics({"loss": step.loss, "val_top1": step.val_top1}, step.step)
        assert step is not None
        provenance = {
            "kind": "budget",
            "id": chosen,
            "budget": budget,
            "limits": params.budgets[budget],
            "val_top1": round(step.val_top1, 6),
        }
        folder = paths.BUDGETS / budget
        shutil.rmtree(folder, ignore_errors=True)
        save_subnetwork(folder, replace(subnetwork, provenance=provenance))
        run.metrics({"val_top1": step.val_top1})
    console.print(f"budget '{budget}': {chosen} fine-tuned, val top-1 {step.val_top1:.2%}")


def choose(front: pd.DataFrame, budget: Budget, full: dict[str, float], name: str) -> str:
    """Id of the sub-network with the best validation top-1 within all limits.

    Raises:
        BudgetError: If there is none; names what comes nearest.
    """
    columns = [limit.quantity.column for limit in budget]
    limits = [limit.resolve(full.get(c)) for limit, c in zip(budget, columns, strict=True)]
    error = torch.tensor((1 - front["val_top1"]).to_numpy())
    best = pareto.best_under(error, torch.tensor(front[columns].to_numpy()).double(), limits)
    if best is None:
        wanted = " and ".join(map(str, budget))
        least = ", ".join(
            f"{limit.quantity.name} from {limit.quantity.format(front[c].min())}"
            for limit, c in zip(budget, columns, strict=True)
        )
        hints = "".join(limit.hint for limit in budget)
        raise BudgetError(
            f"budget '{name}': nothing on the front has {wanted}; it has {least}{hints}"
        )
    return str(front["id"].iloc[best])


if __name__ == "__main__":
    run_command(lambda: typer.run(main))
