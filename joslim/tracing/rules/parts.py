"""Operations that take a tensor apart, put tensors together, or keep one number of many."""

import operator
from typing import Any

from torch import fx

from joslim.tracing.attributes import Attribute
from joslim.tracing.channels import Runs, Unfollowed, count, fixed, moves, size_of
from joslim.tracing.graph import result_of, shape_of
from joslim.tracing.operators import is_pointwise
from joslim.tracing.rules.arguments import argument, layer_of, source_of
from joslim.tracing.rules.pointwise import broadcast
from joslim.tracing.values import TensorValue, Value
from joslim.tracing.walk import Walk


def split(walk: Walk, node: fx.Node) -> Value:
    """Stretches of one dimension; of channels, if attributes of the module say how many."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 2, "dim", 0) % len(axes)
    given: Any = node.args[1] if len(node.args) > 1 else next(iter(set(node.kwargs) - {"dim"}))
    given = node.kwargs[given] if isinstance(given, str) else given
    sizes = [result.sizes[dim] for result in result_of(node)]
    if not moves(axes[dim]):
        stretches = [fixed((size,))[0] for size in sizes]
    elif isinstance(given, tuple | list):
        stretches = walk.channels.cut(axes[dim], sizes)
        walk.follow_numbers(node, given, stretches)
    elif len(set(sizes)) == 1 and isinstance(given, int | fx.Node):
        part = walk.channels.split(axes[dim], len(sizes), f"node '{node.name}'")
        if isinstance(given, int):
            walk.follow_numbers(node, [given], [part])
        elif count(walk.size(given)) != count(part):
            raise Unfollowed("splits channels by a number that belongs to others")
        stretches = [part] * len(sizes)
    else:
        raise Unfollowed(f"splits channels into {tuple(sizes)}")
    return tuple(TensorValue((*axes[:dim], runs, *axes[dim + 1 :])) for runs in stretches)


def stretch(walk: Walk, node: fx.Node, axis: Runs, bounds: slice) -> Runs:
    """The channels before or after the number of them that an attribute of the module says.

    Raises:
        Unfollowed: If other channels are picked.
    """
    start = bounds.start or None
    number = bounds.stop if start is None else start
    one_end = (start, bounds.stop).count(None) == 1
    if not isinstance(number, Attribute) or bounds.step is not None or not one_end:
        raise Unfollowed("picks some of the channels")
    kept = min(number, size_of(axis))
    before, after = walk.channels.cut(axis, [kept, size_of(axis) - kept])
    walk.follow_numbers(node, [number], [before])
    return before if start is None else after


def unbind(walk: Walk, node: fx.Node) -> Value:
    """The entries of a dimension that is no channel."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 1, "dim", 0) % len(axes)
    if moves(axes[dim]):
        raise Unfollowed("takes channels apart")
    return (TensorValue((*axes[:dim], *axes[dim + 1 :])),) * len(result_of(node))


def stack(walk: Walk, node: fx.Node) -> TensorValue:
    """Tensors of one shape along a new dimension."""
    sources = argument(node, 0, "tensors")
    if not isinstance(sources, tuple | list):
        raise Unfollowed("joins a computed list")
    first, *others = (walk.axes(source) for source in sources)
    for axes in others:
        for one, other in zip(first, axes, strict=True):
            walk.tie(one, other, node)
    dim = argument(node, 1, "dim", 0) % (len(first) + 1)
    return TensorValue((*first[:dim], *fixed((len(sources),)), *first[dim:]))


def concatenate(walk: Walk, node: fx.Node) -> TensorValue:
    """Tensors side by side along one dimension: their parts in order."""
    sources = argument(node, 0, "tensors")
    dim = argument(node, 1, "dim", 0)
    if not isinstance(sources, tuple | list):
        raise Unfollowed("joins a computed list")
    first, *others = (walk.axes(source) for source in sources)
    dim %= len(first)
    joined = first[dim]
    for axes in others:
        joined += axes[dim]
        for i in set(range(len(first))) - {dim}:
            walk.tie(first[i], axes[i], node)
    return TensorValue((*first[:dim], joined, *first[dim + 1 :]))


def chunk(walk: Walk, node: fx.Node) -> Value:
    """Equal parts of one dimension, which share their channels."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 2, "dim", 0) % len(axes)
    results = result_of(node)
    if not moves(axes[dim]):
        return tuple(
            TensorValue((*axes[:dim], *fixed(result.sizes[dim : dim + 1]), *axes[dim + 1 :]))
            for result in results
        )
    part = walk.channels.split(axes[dim], len(results), f"node '{node.name}'")
    return (TensorValue((*axes[:dim], part, *axes[dim + 1 :])),) * len(results)


def reduction(walk: Walk, node: fx.Node) -> TensorValue:
    """Sums, means, norms and the like over some dimensions, which become 1 or vanish."""
    axes = walk.axes(source_of(node))
    name = getattr(node.target, "__name__", node.target)
    at_dim, at_keepdim = REDUCTION_ARGUMENTS.get(str(name), (1, 2))
    given = argument(node, at_dim, "dim")
    if given is None:
        return TensorValue(fixed(shape_of(node)))
    dims = (given,) if isinstance(given, int) else given
    if not isinstance(dims, tuple | list) or not all(isinstance(dim, int) for dim in dims):
        raise Unfollowed("reduces dimensions that are not written out")
    reduced = {dim % len(axes) for dim in dims}
    if argument(node, at_keepdim, "keepdim", False):
        one = fixed((1,))[0]
        return TensorValue(tuple(one if i in reduced else axis for i, axis in enumerate(axes)))
    return TensorValue(tuple(axis for i, axis in enumerate(axes) if i not in reduced))


REDUCTION_ARGUMENTS = {"norm": (2, 3), "var": (1, 3), "std": (1, 3)}
"""Positions of ``dim`` and ``keepdim`` where they are not 1 and 2."""


def extremum(walk: Walk, node: fx.Node) -> Value:
    """The largest or smallest: of two tensors, of all elements, or along a dimension with places.

    Raises:
        Unfollowed: If places along channels are used: which of them is which depends on the widths.
    """
    if is_pointwise(node):
        return broadcast(walk, node)
    reduced = reduction(walk, node)
    if not isinstance(result_of(node), tuple):
        return reduced
    dim: Any = argument(node, 1, "dim")
    if moves(walk.axes(source_of(node))[dim]):
        used = [user for user in node.users if user.users or user.op == "output"]
        if not all(user.target in (operator.getitem, getattr) for user in used) or not all(
            user.args[1] in (0, "values") for user in used
        ):
            raise Unfollowed("looks up at which of the channels it is")
    return (reduced, reduced)


def gated(walk: Walk, node: fx.Node) -> TensorValue:
    """One half of a dimension times a gate from the other half; the halves share their channels."""
    axes = walk.axes(source_of(node))
    layer: Any = layer_of(walk, node)
    dim = (layer.dim if layer else argument(node, 1, "dim", -1)) % len(axes)
    half = walk.channels.split(axes[dim], 2, f"node '{node.name}'")
    return TensorValue((*axes[:dim], half, *axes[dim + 1 :]))
