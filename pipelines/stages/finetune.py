"""Stage ``finetune``: choose the best sub-network within one budget and train it on."""

from collections.abc import Collection

import pandas as pd
import torch
import typer
from torch import nn

from joslim import pareto
from joslim.budgets import Budget
from joslim.errors import BudgetError
from joslim.finetuning import finetune
from joslim.supernet.artifact import extract_subnetwork, load_slimmable
from joslim.supernet.private import private_parameters
from joslim.training.threads import use_suitable_threads
from pipelines import tracking
from pipelines.artifacts.budget_model import BudgetModel
from pipelines.artifacts.files import read_json
from pipelines.artifacts.prepared_data import DataInfo, load_split
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console
from pipelines.terminal.progress import track


def main(budget: str) -> None:
    params = load_params()
    info, allow = DataInfo.load_for(params), params.network.own_code
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
        subnetwork = extract_subnetwork(paths.FRONT, chosen, allow=allow)
        settings = params.finetune
        spec = subnetwork.spec
        image = torch.zeros(2, spec.in_channels, spec.image_size, spec.image_size)
        parameters = private_parameters(subnetwork.model, settings.private, image)
        use_suitable_threads(spec.build(allow=allow), params.training.batch_size)
        val_top1 = float(front.set_index("id")["val_top1"][chosen])
        for step in track(
            finetune(
                subnetwork.model,
                load_split("train"),
                load_split("val").kept(),
                params.training,
                epochs=settings.epochs,
                learning_rate=settings.learning_rate,
                seed=params.seed,
                parameters=parameters,
                teacher=_teacher(settings.distillation_weight, allow),
                distillation_weight=settings.distillation_weight,
            )
            if parameters
            else (),
            f"fine-tuning {budget}",
            describe=lambda p: f"loss {p.loss:.3f}, val {p.val_top1:.2%}",
            position=lambda p: (p.step, p.num_steps),
        ):
            val_top1 = step.val_top1
            if step.step % 10 == 0:
                run.metrics({"loss": step.loss, "val_top1": val_top1}, step.step)
        limits = params.budgets[budget]
        model = BudgetModel(budget, chosen, limits, settings.private, round(val_top1, 6))
        model.save(subnetwork, parameters)
        run.metrics({"val_top1": val_top1})
    how = "fine-tuned" if parameters else "as sliced"
    console.print(f"budget '{budget}': {chosen} {how}, val top-1 {val_top1:.2%}")


def _teacher(distillation_weight: float, allow: Collection[str]) -> nn.Module | None:
    """The full network, if it is learned from; else None."""
    if distillation_weight == 0:
        return None
    slimmable = load_slimmable(paths.FRONT, allow=allow)
    return slimmable.extract(max(slimmable.configurations, key=lambda c: c.numbers["macs"]).id)


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
