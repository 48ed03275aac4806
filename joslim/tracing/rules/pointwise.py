"""Operations that treat every channel alike: activations, arithmetic, pooling."""

from functools import partial, reduce
from itertools import zip_longest

from torch import fx

from joslim.tracing.channels import Axes, Runs, Unfollowed, fixed, moves, size_of
from joslim.tracing.graph import shape_of
from joslim.tracing.rules.arguments import argument, source_of
from joslim.tracing.rules.layers import batched, keep_positions
from joslim.tracing.values import TensorValue, Value
from joslim.tracing.walk import Walk


def elementwise(walk: Walk, node: fx.Node) -> TensorValue:
    """One operand, element by element."""
    return TensorValue(walk.axes(source_of(node)))


def broadcast(walk: Walk, node: fx.Node) -> Value:
    """Tensors and numbers, element by element."""
    values = map(walk.value, node.all_input_nodes)
    operands = [value.axes for value in values if isinstance(value, TensorValue)]
    if not operands:
        raise Unfollowed("computes with their number")
    return TensorValue(reduce(partial(broadcast_axes, walk, node), operands))


def broadcast_axes(walk: Walk, node: fx.Node, first: Axes, second: Axes) -> Axes:
    """The dimensions of two operands together; where neither is 1 they must agree."""
    axes: list[Runs] = []
    for one, other in zip_longest(reversed(first), reversed(second)):
        if one is None or other is None:
            axes.append(one or other)
        elif 1 in (size_of(one), size_of(other)):
            axes.append(one if size_of(other) == 1 else other)
        else:
            axes.append(walk.tie(one, other, node))
    return tuple(reversed(axes))


def spatial(walk: Walk, node: fx.Node) -> TensorValue:
    """Pooling and the like: channels stay, positions change."""
    batch, channels, *positions = batched(walk, node)
    keep_positions(tuple(positions))
    return TensorValue((batch, channels, *fixed(shape_of(node)[2:])))


def padding(walk: Walk, node: fx.Node) -> TensorValue:
    """Padding of positions; dimensions are given from the last to the first."""
    axes = list(walk.axes(source_of(node)))
    pads = argument(node, 1, "pad")
    if not isinstance(pads, tuple | list):
        raise Unfollowed("pads by a computed list")
    sizes = [walk.size(pad) for pad in pads]
    if any(map(moves, sizes)):
        raise Unfollowed("pads by a number of channels")
    for dim in {-1 - i // 2 for i, size in enumerate(sizes) if size_of(size) != 0}:
        if moves(axes[dim]):
            raise Unfollowed("changes the number of channels by a fixed amount")
        axes[dim] = fixed(shape_of(node))[dim]
    return TensorValue(tuple(axes))


def roll(walk: Walk, node: fx.Node) -> TensorValue:
    """Positions moved along some dimensions, those at the end to the front."""
    axes = walk.axes(source_of(node))
    given = argument(node, 2, "dims")
    dims = (given,) if isinstance(given, int) else given
    if not isinstance(dims, tuple | list) or not dims or any(moves(axes[dim]) for dim in dims):
        raise Unfollowed("changes the order of channels")
    return TensorValue(axes)
