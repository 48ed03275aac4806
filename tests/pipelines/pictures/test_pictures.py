import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import finished_run
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from joslim.widths import ChannelGroup
from pipelines.pictures import (
    PALETTE,
    Mark,
    draw_confusion,
    draw_curves,
    draw_front,
    draw_widths,
    plot_confusion,
    plot_front,
    plot_widths,
    to_svg,
)
from pipelines.pictures.curves import _spread
from pipelines.pictures.front import NARROW
from pipelines.pictures.style import shorten


def front(num_points: int, num_groups: int = 3) -> pd.DataFrame:
    at = np.linspace(1 / num_points, 1, num_points)
    rows = [(16 * (1 + np.arange(num_groups) % 4) * f).round().astype(int) for f in at]
    return pd.DataFrame(
        {
            "id": [f"w-{i}" for i in range(num_points)],
            "objective": (1e6 * at).astype(int),
            "val_top1": 0.8 + 0.1 * at,
            "widths": ["-".join(map(str, row)) for row in rows],
        }
    )


def groups(count: int) -> tuple[ChannelGroup, ...]:
    fulls = [16 * (1 + i % 4) for i in range(count)]
    return tuple(
        ChannelGroup(f"network.a.block.{i}.convolution.of.depth", n, 1, 1, ())
        for i, n in enumerate(fulls)
    )


def labels(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def mark(table: pd.DataFrame, budget: str, row: int, gain: float = 0.01) -> Mark:
    point = table.iloc[row]
    return Mark(budget, point.id, point.objective, point.val_top1 + gain, point.objective * 1.1)


@pytest.mark.parametrize("num_points", [1, 2, 40])
@pytest.mark.parametrize("width", [4.2, 10.8])
def test_the_front_has_a_tooltip_per_point_and_a_label_per_budget(
    num_points: int, width: float
) -> None:
    table = front(num_points)
    figure = draw_front(table, table, "macs", [mark(table, "phone", 0)], width=width)
    svg = to_svg(figure, "Front")
    assert svg.count("<title>w-") == num_points
    error = 100 * (1 - table.val_top1[0] - 0.01)
    assert labels(figure) == [f"phone  {error:.1f} %" if width > NARROW else "phone"]


def test_budgets_with_the_same_model_share_a_label() -> None:
    table = front(4)
    marks = [mark(table, "phone", 1), mark(table, "watch", 1), mark(table, "desk", 3)]
    figure = draw_front(table, table, "macs", marks)
    assert [text.split("  ")[0] for text in labels(figure)] == ["phone, watch", "desk"]


def test_labels_of_close_budgets_do_not_overlap() -> None:
    table = front(4)
    marks = [mark(table, f"budget-{i}", 1, gain=0.01 + i / 10_000) for i in range(5)]
    figure = draw_front(table, table, "macs", marks)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_bad_candidates_do_not_squash_the_front_and_are_counted() -> None:
    table = front(5)
    bad = pd.DataFrame({"id": ["x", "y"], "objective": [5e5, 6e5], "val_top1": [0.1, 0.2]})
    figure = draw_front(table, pd.concat([table, bad]), "macs")
    assert figure.axes[0].get_ylim()[1] < 30
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["candidates (2 above the picture)", "front"]


@pytest.mark.parametrize("objective", ["params", "memory"])
def test_other_objectives(objective: str) -> None:
    table = front(5)
    svg = to_svg(draw_front(table, table, objective), "Front")
    assert {"params": "1M", "memory": "977 KiB"}[objective] in svg


@pytest.mark.parametrize(("num_points", "num_groups"), [(1, 1), (12, 6), (60, 50)])
def test_widths(num_points: int, num_groups: int) -> None:
    table = front(num_points, num_groups)
    marks = [mark(table, "phone", 0), mark(table, "desk", -1)]
    figure = draw_widths(table, groups(num_groups), "macs", 1e6, marks)
    to_svg(figure, "Widths")
    names = ["phone, desk"] if num_points == 1 else ["phone", "desk"]
    numbers = table.widths.str.cat(sep="-").count("-") + 1 if num_points <= 12 else 0
    assert labels(figure)[-len(names) :] == names
    assert len(labels(figure)) == numbers + len(names)


def test_widths_leave_out_groups_that_cannot_move() -> None:
    fixed = ChannelGroup("stem", 16, 16, 1, (), frozen="it is the output")
    table = front(3, 2)
    figure = draw_widths(table, [fixed, *groups(2)[1:]], "macs", 1e6)
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == [
        "a.block.1.co…on.of.depth   32"
    ]
    to_svg(draw_widths(front(1, 1), [fixed], "macs", 1e6), "nothing can move")


@pytest.mark.parametrize("num_points", [1, 3, 500])
def test_curves(num_points: int) -> None:
    epoch = np.arange(1, num_points + 1) / 100
    losses = {f"{name}_loss": 1 / (1 + epoch) for name in ("full", "smallest", "proposals")}
    figure = draw_curves(pd.DataFrame({"epoch": epoch, "learning_rate": 0.1, **losses}))
    to_svg(figure, "Curves")
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert sorted(labels(figure)) == ["full", "proposals", "smallest"]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_spread_moves_values_no_further_than_needed() -> None:
    spread = _spread(np.array([5.0, 1.0, 1.2]), 1.0)
    assert spread == pytest.approx([5.0, 0.6, 1.6])


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_confusion(num_classes: int) -> None:
    counts = finished_run.confusion_counts(num_classes, 50, 0.8, np.random.default_rng(0))
    names = [f"$class_{i}$ <b> & 日本 of a long name" for i in range(num_classes)]
    svg = to_svg(draw_confusion(counts, names), "Confusion")
    assert "&lt;b&gt;" in svg or "…" in svg
    ElementTree.fromstring(svg)


def test_confusion_numbers_are_percent_of_a_row() -> None:
    figure = draw_confusion(np.array([[3, 1, 0], [0, 0, 0], [0, 0, 1000]]), ["a", "b", "c"])
    assert labels(figure) == ["75", "25", "100"]


def test_svg_has_variables_for_colours_and_neither_ids_nor_dates() -> None:
    table = front(5)
    svg = to_svg(draw_front(table, table, "macs", [mark(table, "a & <b>", 2)]), 'The "front"')
    assert svg.startswith('<svg role="img" aria-label="The &quot;front&quot;"')
    assert "var(--blue)" in svg
    assert not any(color in svg for color in PALETTE.values())
    assert "a &amp; &lt;b&gt;" in svg
    assert not re.search('<g id="', svg)
    assert svg == to_svg(
        draw_front(table, table, "macs", [mark(table, "a & <b>", 2)]), 'The "front"'
    )
    ElementTree.fromstring(svg)


def test_files_are_pngs_of_readme_width(tmp_path: Path) -> None:
    table = front(5)
    plot_front(table, table, "macs", tmp_path / "front.png")
    plot_widths(table, groups(3), "macs", 1e6, tmp_path / "widths.png")
    plot_confusion(torch.eye(3).long(), ["a", "b", "c"], tmp_path / "confusion.png")
    assert Image.open(tmp_path / "front.png").width == 1600
    assert Image.open(tmp_path / "widths.png").width == 1600
    assert Image.open(tmp_path / "confusion.png").width == 1120


def test_shorten_keeps_both_ends() -> None:
    assert shorten("short") == "short"
    assert shorten("a" * 20 + "b" * 20) == "a" * 12 + "…" + "b" * 11
