"""The state of the graph walk: what every node gives in terms of channels, and what uses them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from math import ceil, gcd, prod

from torch import fx, nn

from joslim.errors import TracingError
from joslim.tracing.attributes import Attribute, attributes_in
from joslim.tracing.axes import Activation, Axis, NetworkTrace, Operation, Part, Product, product
from joslim.tracing.channels import (
    Atom,
    Axes,
    Channels,
    Runs,
    Unfollowed,
    atoms_of,
    fixed,
    moves,
    resolve,
    size_of,
)
from joslim.tracing.graph import held_until, memory_source, shape_of
from joslim.tracing.values import Size, TensorValue, Value, constant, tensors_in
from joslim.widths import ChannelGroup, default_divisor


class Walk:
    """Collects what the rules report, node after node.

    Attributes:
        modules: The network's modules by name.
        channels: The atoms found so far.
        values: What every node visited so far gives.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        computed_with: frozenset[tuple[str, str]] = frozenset(),
    ) -> None:
        self.modules = modules
        self._computed_with = computed_with
        self.channels = Channels()
        self.values: dict[fx.Node, Value] = {}
        self._names: dict[int, str] = {}
        self._tensors: dict[str, Axes] = {}
        self._attributes: dict[tuple[str, str], Axes] = {}
        self._readers: dict[tuple[str, str], set[fx.Node]] = defaultdict(set)
        self._macs: dict[fx.Node, list[tuple[int, Axes]]] = defaultdict(list)

    def axes(self, node: object) -> Axes:
        """The dimensions of the tensor that ``node`` gives."""
        value = self.value(node)
        if not isinstance(value, TensorValue):
            raise Unfollowed(f"takes {node} for a tensor")
        return value.axes

    def size(self, argument: object) -> Runs:
        """An integer argument of an operation, written out or computed by another node."""
        value = self.value(argument)
        if not isinstance(value, Size):
            raise Unfollowed(f"takes {argument} for a size")
        return value.runs

    def value(self, argument: object) -> Value:
        """What an argument of an operation stands for."""
        if isinstance(argument, Size):
            return argument
        return self.values[argument] if isinstance(argument, fx.Node) else constant(argument)

    def tie(self, first: Runs, second: Runs, node: fx.Node) -> Runs:
        """Force two dimensions to agree; where they cannot, freeze both."""
        return self._agree(first, second, f"node '{node.name}'")

    def _agree(self, first: Runs, second: Runs, where: str) -> Runs:
        try:
            self.channels.tie(first, second, where)
        except Unfollowed as reason:
            self.freeze((first, second), f"{where} {reason}")
        return first

    def freeze(self, axes: Iterable[Runs], reason: str) -> None:
        """Keep all channels of ``axes`` at their full count."""
        for atom in atoms_of(axes):
            atom.frozen = atom.frozen or reason

    def pin(self, axes: Iterable[Runs]) -> None:
        """Mark the channels of ``axes`` as the network's interface, which is no channel group."""
        for atom in atoms_of(axes):
            atom.is_interface = True

    def join(self, layer: str, axis: Runs) -> None:
        """Note that a layer passes on the channels of ``axis`` without mixing them."""
        for atom in dict.fromkeys(atoms_of((axis,))):
            atom.members.append(layer)

    def own(self, node: fx.Node, name: str, axes: Axes) -> None:
        """Note the dimensions of the parameter or buffer ``name`` that ``node`` uses."""
        path, _, leaf = name.rpartition(".")
        first_name = self._names.setdefault(id(getattr(self.modules[path], leaf)), name)
        if first_name != name:
            reason = f"'{name}' is the same parameter as '{first_name}'"
            self.freeze((*axes, *self._tensors[first_name]), reason)
        known = self._tensors.setdefault(name, axes)
        for first, second in zip(known, axes, strict=True):
            self.tie(first, second, node)

    def follow(self, node: fx.Node, attribute: str, *axes: Runs) -> None:
        """Note an attribute of the layer that equals the size of ``axes``, or all their sizes."""
        self.describe(str(node.target), attribute, *axes)

    def describe(self, path: str, attribute: str, *axes: Runs) -> None:
        """Note an attribute of the module at ``path`` that equals the sizes of ``axes``."""
        known = self._attributes.setdefault((path, attribute), axes)
        for first, second in zip(known, axes, strict=True):
            if first is not second:
                self._agree(first, second, f"'{path}.{attribute}'")

    def follow_numbers(self, node: fx.Node, numbers: Sequence[int], axes: Sequence[Runs]) -> None:
        """Tie integers that an operation was given to the sizes that they must have.

        Raises:
            Unfollowed: If one that must move is not an attribute of a module, or if the network's
                code also computes with that attribute.
        """
        known: dict[tuple[str, str], dict[int | None, Runs]] = defaultdict(dict)
        for number, runs in zip(numbers, axes, strict=True):
            if isinstance(number, Attribute):
                whole = runs * number.share
                self.tie(known[number.key].setdefault(number.index, whole), whole, node)
            elif moves(runs):
                raise Unfollowed(
                    f"writes down the number of channels in {tuple(map(int, numbers))}"
                )
        for (path, name), entries in known.items():
            if not any(map(moves, entries.values())):
                continue
            if (path, name) in self._computed_with:
                raise Unfollowed(f"reads '{name}', which the network's code also computes with")
            if None in entries:
                followed: Axes = (entries[None],)
            else:
                full = fixed(getattr(self.modules[path], name))
                followed = tuple(entries.get(i, runs) for i, runs in enumerate(full))
            self.describe(path, name, *followed)
            self._readers[path, name].add(node)

    def count_macs(self, node: fx.Node, scale: int, *axes: Runs) -> None:
        """Note multiply-accumulates of ``node``: ``scale`` times the sizes of ``axes``."""
        still = prod(size_of(axis) for axis in axes if not moves(axis))
        self._macs[node].append((scale * still, tuple(filter(moves, axes))))

    def macs_of(self, node: fx.Node) -> int:
        """The multiply-accumulates of ``node`` that were noted, in the full network."""
        return sum(scale * prod(map(size_of, axes)) for scale, axes in self._macs[node])

    def measure_macs(self, node: fx.Node, macs: int) -> None:
        """Count a fixed number of multiply-accumulates for ``node``, and nothing else."""
        self._macs[node] = [(macs, ())] if macs else []

    def result(
        self, nodes: Sequence[fx.Node], min_width: float, divisor: int | None
    ) -> NetworkTrace:
        """Number the groups and describe everything by them."""
        self._keep_what_others_read(nodes)
        roots = [a for a in self.channels.roots() if a.members and not a.is_interface]
        index = {root: i for i, root in enumerate(roots)}

        def resolved(axes: Axes) -> tuple[Axis, ...]:
            return tuple(
                tuple(
                    Part(index[run.atom], run.block, run.size)
                    if run.atom in index
                    else Part(None, run.size, run.size)
                    for run in resolve(axis)
                )
                for axis in axes
            )

        groups = tuple(_group(root, min_width, divisor) for root in roots)
        if all(group.smallest == group.full for group in groups):
            reasons = "; ".join(
                f"{g.name}: {g.frozen or 'already at its smallest'}" for g in groups
            )
            raise TracingError(f"no channel group can change its width: {reasons or 'none found'}")
        return NetworkTrace(
            groups=groups,
            tensors={name: resolved(axes) for name, axes in self._tensors.items()},
            attributes={key: resolved(axes) for key, axes in self._attributes.items()},
            read=frozenset(self._readers),
            operations=tuple(
                Operation(
                    node.name,
                    tuple(product(resolved(axes)) for axes in tensors_in(self.values[node])),
                    tuple(Product(scale, resolved(axes)) for scale, axes in self._macs[node]),
                )
                for node in nodes
                if node.op.startswith("call_")
            ),
            activations=tuple(
                Activation(product(resolved(axes)), born, last)
                for axes, born, last in self._lifetimes(nodes)
            ),
            input_shape=next(shape_of(node) for node in nodes if node.op == "placeholder")[1:],
            graph=nodes[0].graph,
        )

    def _keep_what_others_read(self, nodes: Sequence[fx.Node]) -> None:
        """Freeze attributes that some operation follows and another takes for a fixed number."""
        for node in nodes:
            for number in attributes_in((node.args, node.kwargs)):
                if number.key in self._readers and node not in self._readers[number.key]:
                    reason = f"node '{node.name}' reads '{number.name}' as a fixed number"
                    self.freeze(self._attributes[number.key], reason)

    def _lifetimes(self, nodes: Sequence[fx.Node]) -> Iterable[tuple[Axes, int, int]]:
        step = {node: i for i, node in enumerate(nodes)}
        last_used: dict[fx.Node, int] = {}
        for node, value in self.values.items():
            if not isinstance(value, TensorValue) or node.op == "get_attr":
                continue
            owner = node
            while source := memory_source(owner):
                owner = source
            last = max(step[other] for other in (*node.users, held_until(node)))
            if node.op == "placeholder":  # the caller keeps the image
                last = len(nodes) - 1
            last_used[owner] = max(last_used.get(owner, 0), last)
        for node, last in last_used.items():
            value = self.values[node]
            if isinstance(value, TensorValue) and node.op != "get_attr":
                yield value.axes, step[node], last


def _group(root: Atom, min_width: float, divisor: int | None) -> ChannelGroup:
    wanted = divisor or default_divisor(root.channels * root.unit)
    step = min(wanted // gcd(wanted, root.unit), root.channels)
    smallest = ceil(round(min_width * root.channels / step, 6)) * step
    return ChannelGroup(
        name=root.name,
        full=root.channels,
        smallest=root.channels if root.frozen else min(smallest, root.channels),
        divisor=step,
        members=tuple(dict.fromkeys(root.members)),
        frozen=root.frozen,
    )
