"""What was taken for what."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pipelines.pictures.style import PALETTE, draw_cells, set_labels, shorten, styled

_LABEL = 0.16
"""Inches that a class name needs across."""
_MOST_WITH_NUMBERS = 16


@styled()
def draw_confusion(confusion: np.ndarray, classes: Sequence[str], *, width: float = 5.6) -> Figure:
    """Percent of each label's images per prediction: hits in blue, mistakes in orange.

    The orange has a scale of its own, up to the most frequent mistake; mistakes are few.

    Args:
        confusion: ``(classes, classes)`` counts; rows are labels, columns predictions.
        classes: Their names.
        width: Of the figure, in inches.
    """
    share = confusion / confusion.sum(1, keepdims=True).clip(1)
    hits = np.diag(np.diag(share))
    mistakes = share - hits
    figure = Figure(figsize=(width, width))
    axes = figure.add_subplot()
    draw_cells(axes, 0.9 * hits, PALETTE["blue"])
    draw_cells(axes, 0.9 * np.sqrt(mistakes / max(mistakes.max(), 1e-9)), PALETTE["orange"])
    axes.set_aspect("equal")
    names = [shorten(name) for name in classes]
    set_labels(axes.set_xticks, names, _LABEL, width - 1)
    set_labels(axes.set_yticks, names, _LABEL, width - 1)
    axes.tick_params(axis="x", rotation=90)
    axes.set_title("rows: label, columns: prediction; % of a row")
    if len(names) <= _MOST_WITH_NUMBERS:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.01:
                color = "#ffffff" if row == column and value > 0.5 else PALETTE["ink"]
                number = f"{100 * value:.0f}"
                axes.text(column, row, number, ha="center", va="center", fontsize=8, color=color)
    return figure
