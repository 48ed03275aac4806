"""What all pictures share: colours, type, and the ways out to a file or a page.

All colours come from `PALETTE`, and filled cells are one colour at varying opacity, so that a page
can show the same drawing on a light or a dark ground.
"""

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from io import StringIO
from math import ceil
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

PALETTE = {
    "ink": "#1c2430",
    "muted": "#66707c",
    "faint": "#b9c1ca",
    "line": "#e4e8ec",
    "paper": "#fffffe",  # not #ffffff: that stays white on a dark ground, too
    "blue": "#1f6fb4",
    "teal": "#14917f",
    "orange": "#d1550a",
}
"""Colour by role; they differ in lightness as well, for colour-blind readers and grey prints."""

COST_NAMES = {
    "macs": "MACs per image",
    "params": "parameters",
    "memory": "peak memory",
    "latency": "predicted latency in PyTorch",
}


def cost_name(objective: str) -> str:
    """What an objective is called on an axis."""
    name, _, device = objective.partition("@")
    return f"predicted latency on {device}" if device else COST_NAMES[name]


_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": PALETTE["ink"],
    "text.parse_math": False,
    "axes.edgecolor": PALETTE["faint"],
    "axes.facecolor": "none",
    "axes.labelcolor": PALETTE["muted"],
    "axes.titlecolor": PALETTE["muted"],
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "grid.color": PALETTE["line"],
    "grid.linewidth": 0.8,
    "xtick.color": PALETTE["faint"],
    "ytick.color": PALETTE["faint"],
    "xtick.labelcolor": PALETTE["muted"],
    "ytick.labelcolor": PALETTE["muted"],
    "ytick.major.size": 0,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "svg.fonttype": "none",
    "svg.hashsalt": "joslim",
}
_TIP = "tip:"
_MAX_LABEL = 24
_MOST_WITH_GAPS = 50


@contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for all pictures, while one is drawn or saved."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A page's own fonts have the letters of all languages.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@styled()
def save(figure: Figure, path: Path) -> None:
    """Save a figure as a PNG on white, sharp at the width of a README."""
    figure.savefig(path, dpi=200, facecolor="white", metadata={"Software": None})


@styled()
def to_svg(figure: Figure, title: str) -> str:
    """As an ``<svg>`` element whose colours are CSS variables: ``--ink``, ``--blue``, …

    Text stays text; `tip` becomes a tooltip. The element has no ids of its own.

    Args:
        figure: Drawn in colours of `PALETTE`.
        title: For readers who do not see the picture.
    """
    buffer = StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'<g id="{_TIP}([^"]*)">', r"<g><title>\1</title>", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    for role, color in PALETTE.items():
        svg = svg.replace(color, f"var(--{role})")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1)


def tip(axes: Axes, x: float, y: float, text: str) -> None:
    """Let a page show ``text`` when the pointer is near a point."""
    axes.plot(x, y, "o", ms=14, mew=0, alpha=0, gid=_TIP + text)


def draw_cells(axes: Axes, opacity: np.ndarray, color: str) -> None:
    """Fill a grid of cells, by ``opacity`` in [0, 1]."""
    rows, columns = opacity.shape
    cells = np.empty((rows, columns, 4))
    cells[..., :3] = to_rgb(color)
    cells[..., 3] = opacity
    # "none" keeps the image as small as the grid, and its edges sharp, in SVG.
    axes.imshow(cells, interpolation="none", aspect="auto")
    if max(rows, columns) <= _MOST_WITH_GAPS:
        gap = PALETTE["paper"]
        axes.hlines(np.arange(rows + 1) - 0.5, -0.5, columns - 0.5, colors=gap, linewidths=1)
        axes.vlines(np.arange(columns + 1) - 0.5, -0.5, rows - 0.5, colors=gap, linewidths=1)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def set_labels(setter: Callable, labels: Sequence[str], inches_each: float, inches: float) -> None:
    """Label ticks 0, 1, …; only every second, third, … of them where there is no room for all."""
    step = max(1, ceil(len(labels) * inches_each / inches))
    setter(range(0, len(labels), step), labels[::step])


def shorten(name: str) -> str:
    """``name``, with the middle left out if it is long."""
    if len(name) <= _MAX_LABEL:
        return name
    half = (_MAX_LABEL - 1) // 2
    return f"{name[: _MAX_LABEL - 1 - half]}…{name[-half:]}"
