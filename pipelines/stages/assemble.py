"""Stage ``assemble``: one network for all budgets, with all that was measured of them."""

import shutil

from joslim.budgets import stated
from joslim.supernet.artifact import load_slimmable, save_extended
from pipelines.artifacts.budget_model import BudgetModel
from pipelines.artifacts.files import read_json
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.settings.own_code import own_code
from pipelines.terminal.command import run_command
from pipelines.terminal.console import console


def main() -> None:
    model = load_slimmable(paths.FRONT, allow=own_code())
    for budget in read_params().budgets:
        tuned = BudgetModel.load(budget)
        if tuned.is_shared:
            model = tuned.added_to(model, _numbers(budget))
    shutil.rmtree(paths.SLIMMABLE, ignore_errors=True)
    save_extended(paths.SLIMMABLE, paths.FRONT, model)
    console.print(f"{paths.SLIMMABLE}: {len(model.configurations)} configurations, weights once")


def _numbers(budget: str) -> dict[str, float]:
    """What a budget's model costs and what was measured of it."""
    metrics = read_json(paths.EVALUATE / budget / "metrics.json")
    known = {quantity.column: metrics[quantity.column] for quantity in stated(metrics)}
    tested = {f"test_{name}": value for name, value in metrics["finetuned"].items()}
    return {k: float(v) for k, v in {**known, "val_top1": metrics["val_top1"], **tested}.items()}


if __name__ == "__main__":
    run_command(main)
