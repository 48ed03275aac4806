"""Pictures of a run: each ``draw_…`` makes a figure, each ``plot_…`` saves it as a PNG."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from joslim.widths import ChannelGroup
from pipelines.pictures.confusion import draw_confusion as draw_confusion
from pipelines.pictures.curves import draw_curves as draw_curves
from pipelines.pictures.front import Mark as Mark
from pipelines.pictures.front import draw_front as draw_front
from pipelines.pictures.style import PALETTE as PALETTE
from pipelines.pictures.style import save as save
from pipelines.pictures.style import to_svg as to_svg
from pipelines.pictures.widths import draw_widths as draw_widths


def plot_front(
    front: pd.DataFrame,
    candidates: pd.DataFrame,
    objective: str,
    path: Path,
    marks: Sequence[Mark] = (),
) -> None:
    """Save what `draw_front` draws."""
    save(draw_front(front, candidates, objective, marks), path)


def plot_widths(
    front: pd.DataFrame,
    groups: Sequence[ChannelGroup],
    objective: str,
    full_cost: float,
    path: Path,
    marks: Sequence[Mark] = (),
) -> None:
    """Save what `draw_widths` draws."""
    save(draw_widths(front, groups, objective, full_cost, marks), path)


def plot_curves(curves: pd.DataFrame, path: Path) -> None:
    """Save what `draw_curves` draws."""
    save(draw_curves(curves), path)


def plot_confusion(confusion: Tensor, classes: Sequence[str], path: Path) -> None:
    """Save what `draw_confusion` draws."""
    save(draw_confusion(confusion.numpy(), classes), path)
