"""What `benchmarks.strategies` found, as a table and as a picture."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from joslim import pareto
from pipelines.pictures.style import COST_NAMES, PALETTE, save, styled

PICTURE = Path("docs/results/strategies.png")
FRACTIONS = (0.25, 0.5, 0.75)
"""Of the full network's cost."""

INDEPENDENT = "independent"
"""Dense networks, each trained from scratch; reported beside the strategies."""

COLORS = {"joslim": "blue", "two-stage": "teal", "slim": "orange", "tpe": "muted"}


def hypervolume(front: pd.DataFrame, top1: str) -> float:
    """Of the error ``1 - top1`` and the column ``fraction``, below (1, 1)."""
    errors, fractions = (torch.tensor(front[name].to_numpy()) for name in (top1, "fraction"))
    return pareto.hypervolume(1 - errors, fractions, (1.0, 1.0))


def summary(rows: pd.DataFrame) -> str:
    """Mean ± standard deviation over the seeds, by network, objective and strategy, in Markdown.

    The gaps, means over `FRACTIONS`, are independent training's top-1 at the same cost and seed
    less the slice's, and less the fine-tuned slice's. The hypervolume of uniform widths under the
    same weights shows how much is due to the shapes that were found.
    """
    columns = {"hypervolume": (1, 4), "uniform_hypervolume": (1, 4), "test_hypervolume": (1, 4)}
    columns |= {f"top1_{fraction:.0%}": (100, 2) for fraction in FRACTIONS}
    columns |= {"gap": (100, 2), "finetuned_gap": (100, 2), "minutes": (1, 1)}
    rows = rows.assign(gap=_gap(rows, "top1"), finetuned_gap=_gap(rows, "finetuned"))
    found = rows.groupby(["network", "objective", "strategy"], sort=False)
    table = pd.DataFrame({name: found[name].apply(_spread, *columns[name]) for name in columns})
    table.insert(0, "seeds", found.size())
    names = {"hypervolume": "hypervolume, val", "uniform_hypervolume": "of uniform widths"}
    names |= {"test_hypervolume": "test"}
    names |= {f"top1_{f:.0%}": f"top-1 at {f:.0%}" for f in FRACTIONS}
    names |= {"gap": "gap, points", "finetuned_gap": "gap when fine-tuned"}
    return table.rename(columns=names).reset_index().to_markdown(index=False)


def _gap(rows: pd.DataFrame, measured: str) -> pd.Series:
    """NaN for independent training itself, and where it has not been run yet."""
    case = ["network", "objective", "seed"]
    alone = rows[rows["strategy"] == INDEPENDENT].set_index(case)
    bound = rows[case].join(_mean(alone, "top1").rename("bound"), case)["bound"]
    return (bound - _mean(rows, measured)).where(rows["strategy"] != INDEPENDENT)


def _mean(rows: pd.DataFrame, measured: str) -> pd.Series:
    return rows[[f"{measured}_{fraction:.0%}" for fraction in FRACTIONS]].mean(axis=1)


def _spread(values: pd.Series, scale: float, digits: int) -> str:
    if values.isna().any():
        return ""
    deviation = f" ± {scale * values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{scale * values.mean():.{digits}f}{deviation}"


@styled()
def draw(rows: pd.DataFrame) -> None:
    """Test error within a limit on the cost, mean and spread over the seeds."""
    networks, objectives = rows["network"].unique(), rows["objective"].unique()
    figure = Figure(figsize=(4.2 * len(objectives), 3.8 * len(networks)))
    grid = figure.subplots(
        len(networks), len(objectives), squeeze=False, gridspec_kw={"hspace": 0.12, "wspace": 0.08}
    )
    for (i, network), (j, objective) in product(enumerate(networks), enumerate(objectives)):
        axes = grid[i, j]
        draw_case(axes, rows[(rows["network"] == network) & (rows["objective"] == objective)])
        axes.set_title(f"{network}: test error, percent")
        axes.set_xlabel(f"percent of the full network's {COST_NAMES[objective]}", loc="left")
    axes.legend(loc="upper right", labelcolor=PALETTE["ink"])
    save(figure, PICTURE)


def draw_case(axes: Axes, rows: pd.DataFrame) -> None:
    """A staircase with a band per strategy; independent training as dots with whiskers."""
    limits = np.linspace(0, 1, 401)
    for strategy, color in COLORS.items():
        found = rows[rows["strategy"] == strategy]
        if found.empty:
            continue
        errors = np.array([_within(pd.DataFrame(front), limits) for front in found["front"]])
        mean, spread = errors.mean(axis=0), errors.std(axis=0, ddof=min(1, len(errors) - 1))
        axes.step(100 * limits, mean, where="post", color=PALETTE[color], lw=1.4, label=strategy)
        axes.fill_between(
            100 * limits, mean - spread, mean + spread,
            step="post", color=PALETTE[color], alpha=0.12, lw=0,
        )  # fmt: skip
    alone = rows[rows["strategy"] == INDEPENDENT]
    if len(alone):
        errors = 100 * (1 - alone[[f"top1_{f:.0%}" for f in FRACTIONS]])
        axes.errorbar(
            [100 * f for f in FRACTIONS], errors.mean(), errors.std().fillna(0),
            fmt="o", ms=5, lw=1, color=PALETTE["ink"], mec=PALETTE["paper"],
            label="each trained alone",
        )  # fmt: skip
    axes.grid(axis="y")
    axes.yaxis.set_major_formatter("{x:g}")


def _within(front: pd.DataFrame, limits: np.ndarray) -> np.ndarray:
    """Test error in percent of what ``val`` calls best within each limit; NaN if nothing is."""
    front = front.sort_values("fraction")
    best = front["val_top1"].expanding().apply(lambda seen: seen.argmax(), raw=True).astype(int)
    places = np.searchsorted(front["fraction"], limits, side="right") - 1
    errors = 100 * (1 - front["test_top1"].to_numpy()[best])
    return np.where(places >= 0, errors[places], np.nan)
