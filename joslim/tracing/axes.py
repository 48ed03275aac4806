"""What describes a traced network: dimensions made of channels, and counts made of those."""

from dataclasses import dataclass, field
from math import prod

from torch import fx

from joslim.widths import ChannelGroup, Widths


@dataclass(frozen=True)
class Part:
    """A run of elements along a tensor dimension.

    Attributes:
        group: Index of the channel group that owns the elements; None if their number is fixed.
        block: Elements per channel of the group; all elements if their number is fixed.
        full: Elements in the full network.
    """

    group: int | None
    block: int
    full: int

    def size(self, widths: Widths) -> int:
        """Elements of this part at ``widths``."""
        return self.block if self.group is None else self.block * widths[self.group]


Axis = tuple[Part, ...]
"""One tensor dimension, as the ordered parts that it is made of."""


def axis_size(axis: Axis, widths: Widths) -> int:
    """Elements along ``axis`` at ``widths``."""
    if len(axis) == 1:
        return axis[0].size(widths)
    return sum(part.size(widths) for part in axis)


@dataclass(frozen=True)
class Product:
    """A quantity: ``scale`` times the sizes of all ``axes``."""

    scale: float
    axes: tuple[Axis, ...]

    def at(self, widths: Widths) -> float:
        """The quantity at ``widths``."""
        return self.scale * prod(axis_size(axis, widths) for axis in self.axes)


def product(axes: tuple[Axis, ...]) -> Product:
    """The number of elements of a tensor with these dimensions."""
    moving = tuple(axis for axis in axes if any(part.group is not None for part in axis))
    rest = (sum(part.full for part in axis) for axis in axes if axis not in moving)
    return Product(prod(rest), moving)


@dataclass(frozen=True)
class Activation:
    """A tensor of the forward pass: its elements per image, and from when until when it lives."""

    elements: Product
    born: int
    last_used: int


@dataclass(frozen=True)
class Operation:
    """A node of the graph.

    Attributes:
        name: The node's.
        elements: Of each tensor that it gives, for one image.
        macs: Its multiply-accumulates, for one image; their sum counts.
    """

    name: str
    elements: tuple[Product, ...]
    macs: tuple[Product, ...]


@dataclass(frozen=True)
class NetworkTrace:
    """What the graph walk found in a network.

    Attributes:
        groups: The channel groups, in the order in which the network first produces them.
        tensors: An axis per dimension for every parameter and buffer that a rule claimed.
        attributes: Attributes of layers that follow the widths, ``(module, attribute) -> axes``:
            integers, or tuples of as many integers as there are axes.
        read: Those of the attributes that the network's own code reads as it runs.
        operations: All nodes that compute, in the order in which they run.
        activations: Tensors alive during inference.
        input_shape: Shape of one image, ``(channels, height, width)``.
        graph: The network's `torch.fx` graph, whose nodes the operations are.
    """

    groups: tuple[ChannelGroup, ...]
    tensors: dict[str, tuple[Axis, ...]]
    attributes: dict[tuple[str, str], tuple[Axis, ...]]
    read: frozenset[tuple[str, str]]
    operations: tuple[Operation, ...]
    activations: tuple[Activation, ...]
    input_shape: tuple[int, ...]
    graph: fx.Graph = field(repr=False, compare=False)

    @property
    def macs(self) -> tuple[Product, ...]:
        """Multiply-accumulates of each operation that has any, for one image."""
        return tuple(term for operation in self.operations for term in operation.macs)
