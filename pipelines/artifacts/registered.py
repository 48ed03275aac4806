"""A run's models beside those before them, as people read it; from ``reports/registered.json``."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

HELD_BACK = (
    "The registry answers with the models before; models/slimmable and the tables of this run hold "
    "the ones that are held back."
)

Registered = Mapping[str, Any]
"""What stage ``register`` has written."""


def title(registered: Registered) -> str:
    """Whether the models took over."""
    if registered["held_back"]:
        return "Held back: the models before stay"
    return "The models that took over, and those before them"


def rows(registered: Registered) -> list[dict[str, str]]:
    """One row per budget, of text; ``remark`` says what is out of the ordinary."""
    return [_row(one) for one in registered["comparisons"]]


def table(registered: Registered) -> Group:
    """The rows on a terminal, their remarks below."""
    found = rows(registered)
    shown = Table(
        title=title(registered), title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD, padding=(0, 1),
    )  # fmt: skip
    for column in list(found[0])[:-1]:
        shown.add_column(column, justify="left" if column == "budget" else "right")
    for row in found:
        shown.add_row(*list(row.values())[:-1])
    remarks = (f"{row['budget']}: {row['remark']}" for row in found if row["remark"])
    return Group(shown, *map(Text, [*remarks, *_as_a_whole(registered)]))


def run_tags(registered: Registered) -> dict[str, str]:
    """For the MLflow run that decided: the table as its note, and why models are held back."""
    found = rows(registered)
    lines = [list(found[0]), ["---"] * len(found[0]), *(list(row.values()) for row in found)]
    note = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    tags = {"mlflow.note.content": f"**{title(registered)}**\n\n{note}"}
    held_back = "; ".join(registered["held_back"])
    return {**tags, "held_back": held_back} if held_back else tags


def _row(one: Mapping[str, Any]) -> dict[str, str]:
    top1, before = one["top1"], one["before_top1"]
    return {
        "budget": one["budget"],
        "val top-1 before": _measured(before, one["before"]),
        "val top-1 now": _measured(top1, one["version"]),
        "points": "" if before is None else f"{100 * (top1 - before):+.2f}",
        "by chance": "" if one["allowed"] is None else f"±{100 * one['allowed']:.2f}",
        "remark": "; ".join(filter(None, (one["reason"], one["note"]))),
    }


def _measured(top1: float | None, version: int | None) -> str:
    if version is None:
        return "none"
    return f"{'unknown' if top1 is None else f'{top1:.2%}'}, version {version}"


def _as_a_whole(registered: Registered) -> list[str]:
    """Reasons that are not one budget's and stand in no remark; where which models are."""
    of_budgets = {f"{one['budget']}: {one['reason']}" for one in registered["comparisons"]}
    reasons = [reason for reason in registered["held_back"] if reason not in of_budgets]
    return [*reasons, HELD_BACK] if registered["held_back"] else reasons
