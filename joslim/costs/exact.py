"""What a width configuration costs: exact, in closed form, without running the network.

Every term is a product of a few affine functions of the channel counts, hardly ever more than two,
so a cost is a matrix product for each factor, for any number of width configurations, and
differentiable; a peak is the largest of several such sums. Papers of this field report twice the
MACs, or the MACs themselves, as FLOPs.

Shape legend: ``n`` width configurations, ``d`` channel groups, ``t`` terms, ``p`` distinct products
of ``f`` factors each.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, overload

import torch
from torch import Tensor

from joslim.supernet.network import SlimmableNetwork
from joslim.tracing import Activation, Axis, Part, Product, product
from joslim.widths import Widths, WidthSpace

BYTES_PER_NUMBER = 4


class Cost:
    """A cost of one network as a function of the channel counts; never falls when a count grows.

    Attributes:
        name: The quantity: ``macs``, ``params``, ``memory`` or ``latency``.
        space: The width space that it is a function of.
        is_whole: Whether it is a whole number for whole channel counts.
    """

    is_whole: ClassVar[bool] = True

    def __init__(
        self,
        name: str,
        space: WidthSpace,
        terms: Iterable[Product],
        activations: Sequence[Activation] = (),
    ) -> None:
        """Sum ``terms``, and add what ``activations`` hold at the step at which they hold most."""
        self.name = name
        self.space = space
        terms = list(terms)
        elements = [activation.elements for activation in activations]
        products = list(dict.fromkeys(t.axes for t in [*terms, *elements] if len(t.axes) > 1))
        self._factors = _factors(products, len(space))
        born = torch.tensor([a.born for a in activations], dtype=torch.long)
        gone = torch.tensor([a.last_used + 1 for a in activations], dtype=torch.long)
        rows = _rows(elements, products, len(space))
        held = rows.new_zeros(int(gone.max()) + 1 if len(gone) else 1, rows.shape[1])
        held = held.index_add(0, born, rows).index_add(0, gone, -rows).cumsum(0)
        self._sums = _undominated(held + _rows(terms, products, len(space)).sum(0))
        self.full = self(space.full)
        self.smallest = self(space.smallest)

    @overload
    def __call__(self, widths: Tensor) -> Tensor: ...
    @overload
    def __call__(self, widths: Widths) -> float: ...
    def __call__(self, widths: Tensor | Widths) -> Tensor | float:
        """The cost of one configuration (exact), or of a float64 tensor ``(n, d)``: ``(n,)``."""
        if not isinstance(widths, Tensor):
            counts = torch.tensor([self.space.check(widths)], dtype=torch.float64)
            value = self(counts).item()
            return round(value) if self.is_whole else value
        affine = _with_one(widths).T
        products = torch.stack([factor @ affine for factor in self._factors]).prod(0)
        return (self._sums @ torch.cat([affine, products])).amax(0)

    @overload
    def fraction(self, widths: Tensor) -> Tensor: ...
    @overload
    def fraction(self, widths: Widths) -> float: ...
    def fraction(self, widths: Tensor | Widths) -> Tensor | float:
        """The cost relative to the full network's, in (0, 1]."""
        return self(widths) / self.full


def macs(network: SlimmableNetwork) -> Cost:
    """Multiply-accumulates for one image: half of what `torch.utils.flop_counter` counts.

    That is convolutions, linear layers and the matrix products of attention; not normalisation,
    activations or pooling.
    """
    return Cost("macs", network.space, network.trace.macs)


def movable_fraction(network: SlimmableNetwork) -> float:
    """The part of the full network's MACs, in [0, 1], in operations that some width can shrink."""
    groups = network.space.groups
    movable = [
        term
        for term in network.trace.macs
        if any(p.group is not None and not groups[p.group].frozen for a in term.axes for p in a)
    ]
    return Cost("macs", network.space, movable).full / macs(network).full


def params(network: SlimmableNetwork) -> Cost:
    """Number of parameters; buffers do not count."""
    return Cost("params", network.space, _sizes(network, network.model.named_parameters()))


def memory(network: SlimmableNetwork) -> Cost:
    """Peak bytes of float32 inference on one image: all weights, and the activations alive at once.

    An activation lives from the step that makes it to the last one that reads it, or during which a
    variable of the network's code holds it; the image lives throughout. Scratch space of the
    kernels is not counted. Buffers of integers count as wide as they are.
    """
    state = [*network.model.named_parameters(), *network.model.named_buffers()]
    weights = [
        _times(size, BYTES_PER_NUMBER if tensor.is_floating_point() else tensor.element_size())
        for size, (_, tensor) in zip(_sizes(network, state), state, strict=True)
    ]
    activations = [
        replace(a, elements=_times(a.elements, BYTES_PER_NUMBER)) for a in network.trace.activations
    ]
    return Cost("memory", network.space, weights, activations)


COSTS = {"macs": macs, "params": params, "memory": memory}
"""The exact costs by name."""


def _sizes(network: SlimmableNetwork, tensors: Iterable[tuple[str, Tensor]]) -> list[Product]:
    """The number of elements of each named parameter or buffer."""
    axes = network.trace.tensors
    return [
        product(axes[name]) if name in axes else Product(tensor.numel(), ())
        for name, tensor in tensors
    ]


def _times(numbers: Product, factor: int) -> Product:
    return replace(numbers, scale=numbers.scale * factor)


def _row(axis: Axis, num_groups: int) -> Tensor:
    """The size of ``axis`` as coefficients ``(1 + d,)``: a constant, then one per group."""
    row = torch.zeros(1 + num_groups, dtype=torch.float64)
    for part in axis:
        row[0 if part.group is None else 1 + part.group] += part.block
    return row


def _factors(products: Sequence[tuple[Axis, ...]], num_groups: int) -> Tensor:
    """The affine functions that each product multiplies, as coefficients ``(f, p, 1 + d)``."""
    num_factors = max(map(len, products), default=1)
    factors = torch.zeros(num_factors, len(products), 1 + num_groups, dtype=torch.float64)
    factors[:, :, 0] = 1.0
    for p, axes in enumerate(products):
        for f, axis in enumerate(axes):
            factors[f, p] = _row(axis, num_groups)
    return factors


def _rows(
    terms: Sequence[Product], products: Sequence[tuple[Axis, ...]], num_groups: int
) -> Tensor:
    """Each term as coefficients ``(t, 1 + d + p)``: a constant, the groups, the products."""
    column = {axes: 1 + num_groups + p for p, axes in enumerate(products)}
    rows = torch.zeros(len(terms), 1 + num_groups + len(products), dtype=torch.float64)
    for t, term in enumerate(terms):
        if len(term.axes) > 1:
            rows[t, column[term.axes]] = term.scale
        else:
            axis = term.axes[0] if term.axes else (Part(None, 1, 1),)
            rows[t, : 1 + num_groups] = term.scale * _row(axis, num_groups)
    return rows


def _undominated(rows: Tensor) -> Tensor:
    """The rows that are the largest for some widths: those that no other row exceeds everywhere."""
    rows = rows.unique(dim=0)
    return rows[torch.stack([(rows >= row).all(1).sum() == 1 for row in rows])]


def _with_one(widths: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(widths[:, :1]), widths], dim=1)
