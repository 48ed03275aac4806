"""Where along the front a network keeps its channels."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from joslim.widths import ChannelGroup
from pipelines.pictures.front import Mark
from pipelines.pictures.style import PALETTE, cost_name, draw_cells, set_labels, shorten, styled

_CELL = 0.32
"""Inches that a number needs."""


@styled()
def draw_widths(
    front: pd.DataFrame,
    groups: Sequence[ChannelGroup],
    objective: str,
    full_cost: float,
    marks: Sequence[Mark] = (),
    *,
    width: float = 8.0,
) -> Figure:
    """Channels of every searchable group (rows) in every network of the front (columns).

    Args:
        front: Columns ``id``, ``widths`` and ``objective``, by ascending cost.
        groups: Of the width space, in network order.
        objective: What the cost is, as in a budget.
        full_cost: The full network's.
        marks: Budgets, named above the columns that they were chosen from.
        width: Of the figure, in inches.
    """
    searchable = [i for i, group in enumerate(groups) if group.smallest < group.full]
    rows = searchable or list(range(len(groups)))
    counts = np.array([[int(n) for n in text.split("-")] for text in front.widths]).T[rows]
    full = np.array([groups[i].full for i in rows])
    smallest = min(groups[i].smallest / groups[i].full for i in rows)
    narrowed = (1 - counts / full[:, None]) / max(1 - smallest, 1e-9)
    strength = 1 - narrowed.clip(0, 1)

    figure = Figure(figsize=(width, 1.2 + 0.28 * len(rows)))
    axes = figure.add_subplot()
    draw_cells(axes, 0.05 + 0.95 * strength, PALETTE["blue"])
    axes.set_yticks(
        range(len(rows)),
        [f"{shorten(groups[i].name.removeprefix('network.'))}   {groups[i].full}" for i in rows],
    )
    column = front.objective
    shares = [f"{100 * cost / full_cost:.0f}" for cost in column]
    set_labels(axes.set_xticks, shares, _CELL, width - 2)
    label = f"{cost_name(objective)}, % of the full network"
    roomy = len(front) * _CELL < width - 2
    if roomy:
        label += "; in the cells: channels"
        for (row, col), count in np.ndenumerate(counts):
            color = "#ffffff" if strength[row, col] > 0.6 else PALETTE["ink"]
            axes.text(col, row, str(count), ha="center", va="center", fontsize=8, color=color)
    axes.set_xlabel(label, loc="left")
    at = {name: i for i, name in enumerate(front.id)}
    for col, members in groupby(sorted(marks, key=lambda m: at[m.id]), lambda m: at[m.id]):
        axes.annotate(
            ", ".join(mark.budget for mark in members),
            (col - 0.2, -0.5),
            (0, 4),
            textcoords="offset points",
            rotation=30 if roomy else 60,
            rotation_mode="anchor",
            color=PALETTE["orange"],
            weight="bold",
        )
    return figure
