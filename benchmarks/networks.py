"""Torchvision's classifiers as slimmable networks: what can move, and whether costs are exact.

`python -m benchmarks.networks` prints the table of docs/networks.md and writes it there. It needs
no weights: networks are built, traced and run on the meta device, at 224 × 224 pixels.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

import joslim

NUM_WIDTHS = 20
TABLE = Path(__file__).parent.parent / "docs" / "networks.md"
START, END = "<!-- benchmarks.networks -->", "<!-- end -->"


class _ConcreteSizes(TorchFunctionMode):
    """Lets builders compute channel counts with tensors, unreadable on meta."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.arange, torch.tensor):
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def zoo() -> list[str]:
    """The names of torchvision's classifiers."""
    return torchvision.models.list_models(module=torchvision.models)


def without_weights(name: str) -> tuple[nn.Module, Tensor]:
    """A classifier of torchvision on the meta device, in eval mode, and an image for it."""
    with torch.device("meta"), _ConcreteSizes():
        model = joslim.networks.create(f"torchvision:{name}", num_classes=10)
    return model.to("meta").eval(), torch.zeros(1, 3, 224, 224, device="meta")


def counted_macs(model: nn.Module, image: Tensor) -> int:
    """Half of what PyTorch counts; attention runs as the matrix products that it can count."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(image)
    return counter.get_total_flops() // 2


@dataclass(frozen=True)
class Row:
    """What was found about one network.

    Attributes:
        name: In torchvision.
        macs: Of the full network.
        groups: Channel groups that can move, and frozen ones.
        movable: Fraction of the MACs that some width can shrink.
        exact: How many of `NUM_WIDTHS` random width configurations have exact costs.
        seconds: To trace the network and check its slices, on one core.
    """

    name: str
    macs: int
    groups: tuple[int, int]
    movable: float
    exact: int
    seconds: float


def measure(name: str) -> Row:
    """Trace a network and compare its costs with counts on extracted sub-networks."""
    model, image = without_weights(name)
    start = time.perf_counter()
    network = joslim.slimmable(model, image)
    seconds = time.perf_counter() - start
    macs, params = joslim.costs.macs(network), joslim.costs.params(network)
    generator = torch.Generator().manual_seed(0)
    exact = 0
    for _ in range(NUM_WIDTHS):
        widths = network.space.random(generator)
        dense = network.extract(widths)
        counts = counted_macs(dense, image), sum(p.numel() for p in dense.parameters())
        exact += counts == (macs(widths), params(widths))
    frozen = sum(group.frozen is not None for group in network.space.groups)
    return Row(
        name=name,
        macs=macs.full,
        groups=(len(network.space) - frozen, frozen),
        movable=joslim.costs.movable_fraction(network),
        exact=exact,
        seconds=seconds,
    )


def table(rows: list[Row]) -> Iterator[str]:
    """The rows in Markdown."""
    yield "| network | MACs | groups | frozen | MACs that can move | exact costs | seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for row in rows:
        moving, frozen = row.groups
        yield (
            f"| `{row.name}` | {row.macs / 1e9:.2f} G | {moving} | {frozen} | {row.movable:.1%} "
            f"| {row.exact}/{NUM_WIDTHS} | {row.seconds:.1f} |"
        )


def main() -> None:
    """Measure all networks and replace the table in the docs."""
    rows = []
    for name in zoo():
        rows.append(measure(name))
        print(list(table(rows))[-1], flush=True)
    before, _, rest = TABLE.read_text().partition(START)
    lines = "\n".join(table(rows))
    TABLE.write_text(f"{before}{START}\n{lines}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
