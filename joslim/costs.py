"""What a width configuration costs: exact, in closed form, without running the network.

Every term is a product of a few affine functions of the channel counts, hardly ever more than two,
so a cost is a matrix product for each factor, for any number of width configurations, and
differentiable. Papers of this field report twice the MACs, or the MACs themselves, as FLOPs.

Shape legend: ``n`` width configurations, ``d`` channel groups, ``t`` terms, ``f`` factors of each.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, overload

import torch
from torch import Tensor

from joslim.slimmable_network import SlimmableNetwork
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
        self._affine, products = _split(terms, len(space))
        self._products = _factors(products, len(space))
        self._elements = _factors([a.elements for a in activations], len(space))
        self._born = torch.tensor([a.born for a in activations], dtype=torch.long)
        self._gone = torch.tensor([a.last_used + 1 for a in activations], dtype=torch.long)
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
        total = _with_one(widths) @ self._affine + _values(self._products, widths).sum(0)
        return total + self._peak(widths) if len(self._born) else total

    def _peak(self, widths: Tensor) -> Tensor:
        elements = _values(self._elements, widths)
        held = widths.new_zeros(int(self._gone.max()) + 1, len(widths))
        held = held.index_add(0, self._born, elements).index_add(0, self._gone, -elements)
        return held.cumsum(0).amax(0)

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


def _split(terms: Iterable[Product], num_groups: int) -> tuple[Tensor, list[Product]]:
    """All affine terms as one row of coefficients ``(1 + d,)``, and equal products once."""
    affine = torch.zeros(1 + num_groups, dtype=torch.float64)
    products: dict[tuple[Axis, ...], float] = defaultdict(float)
    for term in terms:
        if len(term.axes) > 1:
            products[term.axes] += term.scale
        else:
            axis = term.axes[0] if term.axes else (Part(None, 1, 1),)
            affine += term.scale * _row(axis, num_groups)
    return affine, [Product(scale, axes) for axes, scale in products.items()]


def _row(axis: Axis, num_groups: int) -> Tensor:
    """The size of ``axis`` as coefficients ``(1 + d,)``: a constant, then one per group."""
    row = torch.zeros(1 + num_groups, dtype=torch.float64)
    for part in axis:
        row[0 if part.group is None else 1 + part.group] += part.block
    return row


def _factors(terms: Sequence[Product], num_groups: int) -> Tensor:
    """Each term as a product of affine functions: their coefficients, ``(f, t, 1 + d)``."""
    num_factors = max((len(term.axes) for term in terms), default=0)
    factors = torch.zeros(max(num_factors, 1), len(terms), 1 + num_groups, dtype=torch.float64)
    factors[:, :, 0] = 1.0
    for t, term in enumerate(terms):
        for side, axis in enumerate(term.axes):
            factors[side, t] = _row(axis, num_groups)
        factors[0, t] *= term.scale
    return factors


def _values(factors: Tensor, widths: Tensor) -> Tensor:
    """Terms of configurations ``(n, d)``: ``(t, n)``."""
    affine = _with_one(widths)
    return torch.stack([factor @ affine.T for factor in factors]).prod(0)


def _with_one(widths: Tensor) -> Tensor:
    return torch.cat([torch.ones_like(widths[:, :1]), widths], dim=1)
