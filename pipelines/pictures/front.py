"""Error against cost, where a reader chooses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from joslim.budgets import quantity
from pipelines.pictures.style import PALETTE, cost_name, styled, tip

NARROW = 6.0
"""Inches; up to this width there is no room for numbers beside names."""


@dataclass(frozen=True)
class Mark:
    """A budget and its model, to be marked in a picture.

    Attributes:
        budget: Its name.
        id: Of the sub-network on the front that was chosen.
        cost: Of that sub-network, in the objective.
        val_top1: After fine-tuning.
        limit: The budget's limit on the objective; None if it limits other quantities.
    """

    budget: str
    id: str
    cost: float
    val_top1: float
    limit: float | None

    @property
    def place(self) -> tuple[float, float]:
        """Where to mark the model: cost and error in percent."""
        return self.cost, 100 * (1 - self.val_top1)


@styled()
def draw_front(
    front: pd.DataFrame,
    candidates: pd.DataFrame,
    objective: str,
    marks: Sequence[Mark] = (),
    *,
    width: float = 8.0,
) -> Figure:
    """Validation error against cost: all candidates faint, the front, and the budgets' models.

    The front is a staircase: the error that can be had for any limit on the cost.

    Args:
        front: Columns ``id``, ``val_top1`` and ``objective``, by ascending cost.
        candidates: The same columns; the full network is the most expensive.
        objective: What the cost is, as in a budget.
        marks: Budgets to mark.
        width: Of the figure, in inches.
    """
    figure = Figure(figsize=(width, 2.4 + 0.25 * width))
    axes = figure.add_subplot()
    error, candidate_error = 100 * (1 - front.val_top1), 100 * (1 - candidates.val_top1)
    low, high = _limits([*error, *(mark.place[1] for mark in marks)], candidate_error.max())
    hidden = int((candidate_error > high).sum())
    note = f"candidates ({hidden} above the picture)" if hidden else "candidates"
    axes.plot(
        candidates.objective, candidate_error, "o", ms=4, mew=0, color=PALETTE["faint"], label=note
    )
    right = 1.03 * candidates.objective.max()
    axes.step(
        [*front.objective, right],
        [*error, error.iloc[-1]],
        where="post",
        color=PALETTE["blue"],
        lw=1.2,
        marker="o",
        ms=6.5,
        mec=PALETTE["paper"],
        markevery=slice(len(front)),
        label="front",
    )
    for name, cost, y in zip(front.id, front.objective, error, strict=True):
        tip(axes, cost, y, f"{name}: {quantity(objective).format(cost)}, {y:.2f} % error")
    axes.set(xlim=(0, right), ylim=(low, high), title="validation error, %")
    axes.set_yticks([tick for tick in axes.get_yticks() if max(low, 0) <= tick <= high])
    axes.grid(axis="y")
    _label_costs(axes, objective, candidates.objective.max())
    if marks:
        front_error = dict(zip(front.id, error, strict=True))
        _draw_marks(axes, marks, front_error, names_only=width <= NARROW)
    figure.legend(
        loc="outside upper left",
        ncols=4 if width > NARROW else 2,
        handletextpad=0.4,
        columnspacing=1.4,
    )
    _part(figure, axes)
    return figure


def _limits(shown: Sequence[float], highest: float) -> tuple[float, float]:
    """Room for all that must be seen and the labels below; bad candidates may lie above."""
    least, most = min(shown), max(shown)
    spread = max(most - least, 0.5)
    high = max(min(max(most, highest), most + 0.6 * spread), least + spread)
    return least - 0.3 * spread, high + 0.08 * spread


def _label_costs(axes: Axes, objective: str, full: float) -> None:
    fractions = (0.25, 0.5, 0.75, 1.0)
    labels = [f"{100 * f:.0f} %\n{quantity(objective).format(f * full)}" for f in fractions]
    axes.set_xticks([0, *(f * full for f in fractions)], ["0", *labels])
    axes.set_xlabel(f"{cost_name(objective)}, and % of the full network", loc="left")


def _draw_marks(
    axes: Axes, marks: Sequence[Mark], front_error: dict[str, float], *, names_only: bool
) -> None:
    """Limits as dotted lines; budgets' models as diamonds, tied to the slices they were."""
    orange = PALETTE["orange"]
    limits = sorted({mark.limit for mark in marks if mark.limit is not None})
    for limit in limits:
        axes.axvline(limit, color=orange, lw=1, ls=(0, (1, 2)), alpha=0.8, zorder=1)
    tuned = sorted(marks, key=lambda mark: mark.place)
    for mark in tuned:
        axes.plot(
            [mark.cost] * 2, [front_error[mark.id], mark.place[1]], color=orange, lw=1.2, zorder=1.5
        )
    axes.plot(
        *zip(*(mark.place for mark in tuned), strict=True),
        "D",
        ms=7,
        mec=PALETTE["paper"],
        color=orange,
        label="for a budget",
    )
    if limits:
        axes.plot([], [], color=orange, lw=1, ls=(0, (1, 2)), label="limit of a budget")
    for place, members in groupby(tuned, key=lambda mark: mark.place):
        names = ", ".join(mark.budget for mark in members)
        tip(axes, place[0], place[1], f"{names}: {place[1]:.2f} % error")
        axes.annotate(
            names if names_only else f"{names}  {place[1]:.1f} %",
            place,
            (-7, -6),
            textcoords="offset points",
            ha="right",
            va="top",
            color=orange,
            weight="bold",
            bbox={"facecolor": PALETTE["paper"], "edgecolor": "none", "pad": 1, "alpha": 0.8},
        )


def _part(figure: Figure, axes: Axes) -> None:
    """Lower labels until none is on another; those that stick out go to the other side."""
    figure.draw_without_rendering()
    placed: list[Bbox] = []
    for label in axes.texts:
        if label.get_window_extent().x0 < axes.bbox.x0:
            label.set(ha="left", x=7)
        while any(label.get_window_extent().overlaps(box) for box in placed):
            label.set_y(label.get_position()[1] - 3)
        placed.append(label.get_window_extent())
