"""The state of the graph walk: channels tied together by union-find, and what they appear in."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from torch import fx, nn

from joslim.errors import TracingError
from joslim.tracing.axes import Activation, Axis, NetworkTrace, Part, Product, product
from joslim.widths import ChannelGroup, default_divisor


@dataclass(eq=False)
class Atom:
    """Channels with one common count, until a tie merges them with others."""

    name: str
    channels: int
    order: int
    frozen: str | None = None
    is_interface: bool = False
    parent: "Atom | None" = None
    members: list[str] = field(default_factory=list)

    def root(self) -> "Atom":
        return self if self.parent is None else self.parent.root()


@dataclass(frozen=True)
class Run:
    """A `Part` of an axis while atoms are still being merged; ``atom`` None means a fixed size."""

    atom: Atom | None
    block: int

    @property
    def size(self) -> int:
        return self.block if self.atom is None else self.block * self.atom.channels


Runs = tuple[Run, ...]
"""One tensor dimension during the walk."""


def runs_size(runs: Runs) -> int:
    return sum(run.size for run in runs)


def fixed(shape: Iterable[int]) -> tuple[Runs, ...]:
    return tuple((Run(None, size),) for size in shape)


def shape_of(node: object) -> tuple[int, ...] | None:
    """Shape of the tensor that a graph node gives; None if it gives something else."""
    meta = node.meta.get("tensor_meta") if isinstance(node, fx.Node) else None
    shape = getattr(meta, "shape", None)
    return None if shape is None else tuple(shape)


class Walk:
    """Collects what the rules report, node after node.

    Attributes:
        modules: The network's modules by name.
        axes: For every node visited so far that gives a tensor, its dimensions.
    """

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self.modules = modules
        self.axes: dict[fx.Node, tuple[Runs, ...]] = {}
        self._atoms: list[Atom] = []
        self._tensors: dict[str, tuple[Runs, ...]] = {}
        self._attributes: dict[tuple[str, str], Runs] = {}
        self._macs: list[tuple[int, tuple[Runs, ...]]] = []
        self._aliases: dict[fx.Node, fx.Node] = {}

    def new_channels(self, name: str, channels: int) -> Runs:
        """An axis whose channel count nothing restricts yet."""
        self._atoms.append(Atom(name, channels, len(self._atoms), members=[name]))
        return (Run(self._atoms[-1], 1),)

    def tie(self, first: Runs, second: Runs, node: fx.Node) -> Runs:
        """Force two axes to agree; where they are made of different parts, freeze both."""
        if [(run.block, run.size) for run in first] != [(run.block, run.size) for run in second]:
            self.freeze((first, second), f"node '{node.name}' joins axes made of different parts")
            return first
        for a, b in zip(first, second, strict=True):
            if a.atom is not None and b.atom is not None:
                self._merge(a.atom.root(), b.atom.root())
            elif a.atom is not b.atom:
                self.freeze((first, second), f"node '{node.name}' joins them with fixed channels")
        return first

    @staticmethod
    def _merge(first: Atom, second: Atom) -> None:
        if first is not second:
            first, second = sorted((first, second), key=lambda atom: atom.order)
            second.parent = first
            first.members += second.members
            first.frozen = first.frozen or second.frozen
            first.is_interface |= second.is_interface

    def freeze(self, axes: Iterable[Runs], reason: str) -> None:
        """Keep all channels of ``axes`` at their full count."""
        for atom in _roots(axes):
            atom.frozen = atom.frozen or reason

    def pin(self, axes: Iterable[Runs]) -> None:
        """Mark the channels of ``axes`` as the network's interface, which is no channel group."""
        for atom in _roots(axes):
            atom.is_interface = True

    def own(self, node: fx.Node, tensor: str, axes: tuple[Runs, ...]) -> None:
        """Note the axes of a parameter or buffer of the layer that ``node`` calls."""
        known = self._tensors.setdefault(f"{node.target}.{tensor}", axes)
        for first, second in zip(known, axes, strict=True):
            self.tie(first, second, node)

    def follow(self, node: fx.Node, attribute: str, axis: Runs) -> None:
        """Note an integer attribute of the layer that equals the size of ``axis``."""
        self._attributes[str(node.target), attribute] = axis

    def count_macs(self, scale: int, *axes: Runs) -> None:
        self._macs.append((scale, axes))

    def alias(self, node: fx.Node, source: fx.Node) -> None:
        """Note that ``node`` gives the memory of ``source``, not memory of its own."""
        self._aliases[node] = source

    def result(
        self, nodes: Sequence[fx.Node], min_width: float, divisor: int | None
    ) -> NetworkTrace:
        """Number the groups and describe everything by them."""
        roots = list(dict.fromkeys(atom.root() for atom in self._atoms))
        roots = [root for root in roots if not root.is_interface]
        index = {root: i for i, root in enumerate(roots)}

        def resolve(axis: Runs) -> Axis:
            return tuple(
                Part(None, run.size, run.size)
                if run.atom is None or run.atom.root().is_interface
                else Part(index[run.atom.root()], run.block, run.size)
                for run in axis
            )

        groups = tuple(_group(root, min_width, divisor) for root in roots)
        if all(group.smallest == group.full for group in groups):
            reasons = "; ".join(
                f"{g.name}: {g.frozen or 'already at its smallest'}" for g in groups
            )
            raise TracingError(f"no channel group can change its width: {reasons or 'none found'}")
        activations = tuple(
            Activation(product(tuple(map(resolve, self.axes[node]))), born, last)
            for node, born, last in self._lifetimes(nodes)
        )
        return NetworkTrace(
            groups=groups,
            tensors={name: tuple(map(resolve, axes)) for name, axes in self._tensors.items()},
            attributes={key: resolve(axis) for key, axis in self._attributes.items()},
            macs=tuple(Product(scale, tuple(map(resolve, axes))) for scale, axes in self._macs),
            activations=activations,
        )

    def _lifetimes(self, nodes: Sequence[fx.Node]) -> Iterable[tuple[fx.Node, int, int]]:
        step = {node: i for i, node in enumerate(nodes)}
        last_used: dict[fx.Node, int] = {}
        for node in self.axes:
            owner = node
            while owner in self._aliases:
                owner = self._aliases[owner]
            last = max((step[user] for user in node.users), default=step[node])
            last_used[owner] = max(last_used.get(owner, 0), last)
        return [(node, step[node], last) for node, last in last_used.items()]


def _roots(axes: Iterable[Runs]) -> list[Atom]:
    return [run.atom.root() for runs in axes for run in runs if run.atom is not None]


def _group(root: Atom, min_width: float, divisor: int | None) -> ChannelGroup:
    step = min(divisor or default_divisor(root.channels), root.channels)
    smallest = math.ceil(round(min_width * root.channels / step, 6)) * step
    return ChannelGroup(
        name=root.name,
        full=root.channels,
        smallest=root.channels if root.frozen else min(smallest, root.channels),
        divisor=step,
        members=tuple(dict.fromkeys(root.members)),
        frozen=root.frozen,
    )
