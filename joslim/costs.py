"""What a width configuration costs: exact, in closed form, without running the network.

Every term is a product of a few affine functions of the channel counts, hardly ever more than two,
so a cost is a matrix product for each factor, for any number of width configurations, and
differentiable. Papers of this field
report twice the MACs, or the MACs themselves, as FLOPs.

Shape legend: ``n`` width configurations, ``d`` channel groups, ``t`` terms, ``f`` factors of each
term, ``s`` graph steps.
"""

from collections.abc import Iterable, Sequence
from typing import overload

import torch
from torch import Tensor

from joslim.slimmable_network import SlimmableNetwork
from joslim.tracing import Product, product
from joslim.widths import Widths, WidthSpace

BYTES_PER_NUMBER = 4


class Cost:
    """A cost of one network as a function of the channel counts; never falls when a count grows.

    Attributes:
        name: The quantity: ``macs``, ``params`` or ``memory``.
        space: The width space that it is a function of.
    """

    def __init__(
        self, name: str, space: WidthSpace, terms: Sequence[Product], alive: Tensor | None = None
    ) -> None:
        """Sum ``terms``; with ``alive`` ``(s, t)``, take the largest of the sums over its rows."""
        self.name = name
        self.space = space
        self._factors = _affine(terms, len(space))
        self._alive = alive
        self.full = self(space.full)
        self.smallest = self(space.smallest)

    @overload
    def __call__(self, widths: Tensor) -> Tensor: ...
    @overload
    def __call__(self, widths: Widths) -> int: ...
    def __call__(self, widths: Tensor | Widths) -> Tensor | int:
        """The cost of one configuration (exact), or of a float64 tensor ``(n, d)``: ``(n,)``."""
        if not isinstance(widths, Tensor):
            counts = torch.tensor([self.space.check(widths)], dtype=torch.float64)
            return round(self(counts).item())
        ones = torch.cat([torch.ones_like(widths[:, :1]), widths], dim=1)
        terms = torch.stack([ones @ factor.T for factor in self._factors]).prod(0)
        return terms.sum(1) if self._alive is None else (terms @ self._alive.T).amax(1)

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

    An activation lives from the step that makes it to the last one that reads it. Scratch space of
    the kernels is not counted.
    """
    state = [*network.model.named_parameters(), *network.model.named_buffers()]
    weights = _sizes(network, state)
    activations = network.trace.activations
    steps = sorted({activation.born for activation in activations})
    alive = [[a.born <= step <= a.last_used for a in activations] for step in steps]
    rows = torch.cat([torch.ones(len(steps), len(weights)), torch.tensor(alive)], dim=1).double()
    terms = [*weights, *(activation.elements for activation in activations)]
    return Cost("memory", network.space, terms, alive=BYTES_PER_NUMBER * rows)


COSTS = {"macs": macs, "params": params, "memory": memory}
"""The exact costs by name."""


def _sizes(network: SlimmableNetwork, tensors: Iterable[tuple[str, Tensor]]) -> list[Product]:
    """The number of elements of each named parameter or buffer."""
    axes = network.trace.tensors
    return [
        product(axes[name]) if name in axes else Product(tensor.numel(), ())
        for name, tensor in tensors
    ]


def _affine(terms: Sequence[Product], num_groups: int) -> Tensor:
    """The factors of every term, ``(f, t, 1 + d)``: a constant, a coefficient per group."""
    num_factors = max((len(term.axes) for term in terms), default=0)
    factors = torch.zeros(max(num_factors, 1), len(terms), 1 + num_groups, dtype=torch.float64)
    factors[:, :, 0] = 1.0
    for t, term in enumerate(terms):
        for side, axis in enumerate(term.axes):
            factors[side, t, 0] = 0.0
            for part in axis:
                column = 0 if part.group is None else 1 + part.group
                factors[side, t, column] += part.block
        factors[0, t] *= term.scale
    return factors
