"""Latency against MACs of uniform widths, for channel counts in steps of 1, 8 and 16.

    python -m benchmarks.rounding

draws docs/results/rounding.png and prints how the latency of unrounded sub-networks compares with
that of rounded ones at equal MACs. All sub-networks of a network run in turns, in a new order each
round.
"""

import random
import statistics
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import joslim
from benchmarks import machine
from joslim.machine.timing import time_models
from pipelines.pictures.style import PALETTE, save, styled

NETWORKS = ("resnet18", "mobilenet_v2")
COLORS = {1: "orange", 8: "blue", 16: "teal"}
"""Colour by divisor."""

WIDTH_MULTS = np.linspace(0.25, 1.0, 49)
ROUNDS = 9
PICTURE = Path(__file__).parent.parent / "docs" / "results" / "rounding.png"

Points = list[tuple[float, float]]
"""Millions of MACs and milliseconds, by rising MACs."""


def main() -> None:
    random.seed(0)
    points = {name: measure(name) for name in NETWORKS}
    draw(points)
    print("| network | divisor | latency against divisor 8 at equal MACs, median | largest |")
    print("|---|---:|---:|---:|")
    for name, by_divisor in points.items():
        for divisor in (1, 16):
            ratios = relative(by_divisor[divisor], by_divisor[8])
            median = statistics.median(ratios)
            print(f"| `{name}` | {divisor} | {median:.3f} × | {max(ratios):.3f} × |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def measure(name: str) -> dict[int, Points]:
    """Median latency of every uniform sub-network at 224 × 224 pixels, by divisor."""
    torch.manual_seed(0)
    image = torch.rand(1, 3, 224, 224)
    model = joslim.networks.create(f"torchvision:{name}", 1000).eval()
    networks = {d: joslim.slimmable(model, image, min_width=0.25, divisor=d) for d in COLORS}
    counted = {d: joslim.costs.macs(network) for d, network in networks.items()}
    cases = {
        (divisor, network.space.uniform(width_mult))
        for divisor, network in networks.items()
        for width_mult in WIDTH_MULTS
    }
    dense = {widths: networks[1].extract(widths) for _, widths in cases}
    times = time_models(dense, image, repeats=ROUNDS)
    return {
        divisor: sorted(
            (counted[divisor](widths) / 1e6, times[widths].milliseconds)
            for d, widths in cases
            if d == divisor
        )
        for divisor in COLORS
    }


def relative(points: Points, base: Points) -> list[float]:
    """Latency of ``points`` over that of ``base``, interpolated to the same MACs."""
    macs, milliseconds = zip(*base, strict=True)
    return [ms / float(np.interp(m, macs, milliseconds)) for m, ms in points]


@styled()
def draw(points: dict[str, dict[int, Points]]) -> None:
    figure = Figure(figsize=(8.0, 3.6))
    axes_list = figure.subplots(1, len(points))
    for axes, (name, by_divisor) in zip(axes_list, points.items(), strict=True):
        draw_network(axes, by_divisor)
        axes.set_title(f"{name}: milliseconds per image")
    axes_list[0].legend(loc="upper left", labelcolor=PALETTE["ink"])
    save(figure, PICTURE)


def draw_network(axes: Axes, by_divisor: dict[int, Points]) -> None:
    for divisor, color in COLORS.items():
        macs, milliseconds = zip(*by_divisor[divisor], strict=True)
        label = f"multiples of {divisor}" if divisor > 1 else "any channel count"
        axes.plot(macs, milliseconds, "o-", lw=1, ms=3, color=PALETTE[color], label=label)
    axes.set(ylim=(0, None), xlim=(0, None))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("million MACs", loc="left")
    axes.grid(axis="y")


if __name__ == "__main__":
    main()
