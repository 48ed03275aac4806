"""What a run made: as tables of text, on the terminal, and as artifacts in Prefect."""

import base64
import csv
import json
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefect.artifacts import acreate_markdown_artifact, acreate_table_artifact
from rich import box
from rich.console import Console
from rich.table import Table

from joslim.budgets import QUANTITIES
from pipelines import tracking
from pipelines.artifacts import registered
from pipelines.settings import paths

Rows = list[dict[str, str]]


def front() -> Rows:
    """One row per model of the front, cheapest first."""
    with (paths.root() / paths.FRONT_REPORT / "front.csv").open(newline="") as file:
        return [
            {
                "of all MACs": _percent(row["macs_fraction"]),
                **_costs(row),
                "val top-1": _percent(row["val_top1"]),
            }
            for row in csv.DictReader(file)
        ]


def budgets(names: Iterable[str]) -> Rows:
    """One row per budget: the version of its model, and what `evaluate` measured."""
    versions = {
        one["id"]: one["version"] for one in _registered()["versions"] if one["kind"] == "budget"
    }
    rows = []
    for name in names:
        path = paths.root() / paths.EVALUATE / name / "metrics.json"
        metrics = json.loads(path.read_text())
        rows.append(
            {
                "budget": name,
                "version": str(versions[name]),
                **_costs(metrics),
                **_test_top1(metrics),
            }
        )
    return rows


def show(console: Console, budget_names: Iterable[str]) -> None:
    """Print the tables and where to look further."""
    found = _registered()
    model = found["model"]
    console.print(
        _table("The front of error against cost", front()),
        _table(f"A model for every budget: versions of {model}", budgets(budget_names)),
        registered.table(found),
    )
    if shutil.which("joslim") is None:
        activate = Path(sys.executable).with_name("activate")
        _print_command(console, "first, in every shell", f". {activate}")
    for purpose, command in (
        ("the best model within a budget", f"joslim lookup --model {model} --budget macs=50%"),
        ("runs, curves and the registry", f"mlflow ui --backend-store-uri {tracking.uri()}"),
        ("past runs of this flow", "prefect server start"),
        ("the report, for a browser", str(paths.root() / paths.REPORT_PAGE)),
    ):
        _print_command(console, purpose, command)


def _print_command(console: Console, purpose: str, command: str) -> None:
    console.print(f"{purpose:<32}", end="")
    console.print(command, style="cyan", soft_wrap=True)


async def publish_front() -> None:
    """Put the front into Prefect's artifacts, as a picture and as a table."""
    picture = (paths.root() / paths.FRONT_REPORT / "front.png").read_bytes()
    encoded = base64.b64encode(picture).decode()
    await acreate_markdown_artifact(
        f"![front](data:image/png;base64,{encoded})",
        key="front-picture",
        description="Error against cost of every candidate, and the front.",
    )
    await acreate_table_artifact(
        front(), key="front", description="Every model of the front, cheapest first."
    )


async def publish_budgets(names: Iterable[str]) -> None:
    """Put the registered model of every budget into Prefect's artifacts, and what was before."""
    found = _registered()
    description = f"The model of every budget: versions of {found['model']}."
    await acreate_table_artifact(budgets(names), key="budgets", description=description)
    await acreate_table_artifact(
        registered.rows(found), key="before", description=f"{registered.title(found)}."
    )


def outcome(num_budgets: int) -> str:
    """How a run ended, in a sentence."""
    if _registered()["held_back"]:
        return f"Registered candidates for {num_budgets} budgets; the models before stay."
    return f"Registered a model for each of {num_budgets} budgets."


def _registered() -> dict[str, Any]:
    registered: dict[str, Any] = json.loads((paths.root() / paths.REGISTERED).read_text())
    return registered


def _costs(numbers: Mapping[str, Any]) -> dict[str, str]:
    known = [q for q in QUANTITIES.values() if numbers.get(q.column) not in (None, "")]
    return {q.name: q.format(float(numbers[q.column])) for q in known}


def _test_top1(metrics: Mapping[str, Any]) -> dict[str, str]:
    found = {"test top-1": _percent(metrics["finetuned"]["top1"])}
    if metrics["private"] == "nothing":
        return found
    return {"sliced": _percent(metrics["slice"]["top1"]), **found}


def _percent(fraction: str | float) -> str:
    return f"{100 * float(fraction):.1f} %"


def _table(title: str, rows: Rows) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1)
    )
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "budget" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    return table
