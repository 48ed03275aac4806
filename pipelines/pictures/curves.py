"""How training went."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from pipelines.pictures.style import PALETTE, styled

LEAST = 1e-6
"""Nats: smaller losses are drawn there, as 0 has no place on a log scale."""

_COLORS = {"full": "ink", "proposals": "blue", "smallest": "teal"}


@styled()
def draw_curves(curves: pd.DataFrame, *, width: float = 8.0) -> Figure:
    """Training losses, raw behind smoothed, above the learning rate.

    Args:
        curves: Columns ``epoch``, ``learning_rate``, ``full_loss``, ``smallest_loss`` and
            ``proposals_loss``.
        width: Of the figure, in inches.
    """
    figure = Figure(figsize=(width, 2.4 + 0.22 * width))
    losses, rate = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    _draw_losses(losses, curves)
    rate.plot(curves.epoch, curves.learning_rate, lw=1.5, color=PALETTE["muted"])
    peak = float(f"{curves.learning_rate.max():.2g}")
    rate.set(ylim=(0, 1.1 * peak), yticks=[0, peak], title="learning rate")
    rate.set_xlabel("epochs", loc="left")
    rate.xaxis.set_major_locator(MaxNLocator(8, steps=(1, 2, 5, 10)))
    rate.set_xlim(0, curves.epoch.iloc[-1])
    plain = FuncFormatter(lambda value, _: f"{value:.3g}")
    rate.xaxis.set_major_formatter(plain)
    for axes in (losses, rate):
        axes.yaxis.set_major_formatter(plain)
        axes.grid(axis="y")
    return figure


def _draw_losses(axes: Axes, curves: pd.DataFrame) -> None:
    window = max(1, len(curves) // 30)
    ends = []
    for name, color in _COLORS.items():
        raw = np.log(curves[f"{name}_loss"].clip(lower=LEAST))
        smooth = raw.rolling(window, min_periods=1, center=True).mean()
        axes.plot(curves.epoch, np.exp(raw), lw=0.8, alpha=0.3, color=PALETTE[color])
        axes.plot(curves.epoch, np.exp(smooth), lw=1.8, color=PALETTE[color])
        ends.append(smooth.iloc[-1])
    axes.set(yscale="log", title="loss, nats (log scale)")
    low, high = np.log(axes.get_ylim())
    within_two_decades = high - low < np.log(100)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if within_two_decades else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", length=0)
    for color, name, y in zip(
        _COLORS.values(), _COLORS, _spread(np.array(ends), 0.07 * (high - low)), strict=True
    ):
        axes.annotate(
            name,
            (curves.epoch.iloc[-1], np.exp(y)),
            (6, 0),
            textcoords="offset points",
            va="center",
            color=PALETTE[color],
            weight="bold",
            annotation_clip=False,
        )


def _spread(values: np.ndarray, gap: float) -> np.ndarray:
    """The nearest values that keep the order and are at least ``gap`` apart."""
    order = np.argsort(values)
    steps = gap * np.arange(len(values))
    spread = np.empty_like(values)
    spread[order] = isotonic_regression(values[order] - steps).x + steps
    return spread
