"""Operations that treat every channel alike: activations, arithmetic, pooling, means."""

from functools import partial, reduce
from itertools import zip_longest

from torch import fx, nn
from torchvision.ops import StochasticDepth

from joslim.tracing.arguments import argument, layer_of, source_of
from joslim.tracing.channels import Axes, Runs, Unfollowed, fixed, moves, size_of
from joslim.tracing.graph import shape_of
from joslim.tracing.layers import keep_positions
from joslim.tracing.values import TensorValue, Value
from joslim.tracing.walk import Walk

IDENTITIES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity, StochasticDepth)


def elementwise(walk: Walk, node: fx.Node) -> TensorValue:
    """One operand, element by element."""
    source = source_of(node)
    layer = layer_of(walk, node)
    in_place = getattr(layer, "inplace", False) or node.kwargs.get("inplace") or _in_place(node)
    if isinstance(layer, IDENTITIES) or in_place:
        walk.alias(node, source)
    return TensorValue(walk.axes(source))


def broadcast(walk: Walk, node: fx.Node) -> Value:
    """Tensors and numbers, element by element."""
    values = map(walk.value, node.all_input_nodes)
    operands = [value.axes for value in values if isinstance(value, TensorValue)]
    if not operands:
        raise Unfollowed("computes with their number")
    if _in_place(node):
        walk.alias(node, source_of(node))
    return TensorValue(reduce(partial(_broadcast, walk, node), operands))


def expand_as(walk: Walk, node: fx.Node) -> Value:
    """Repeated to the shape of another tensor, without a copy."""
    walk.alias(node, source_of(node))
    return broadcast(walk, node)


def _in_place(node: fx.Node) -> bool:
    return node.op == "call_method" and str(node.target).endswith("_")


def _broadcast(walk: Walk, node: fx.Node, first: Axes, second: Axes) -> Axes:
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
    batch, channels, *positions = walk.axes(source_of(node))
    keep_positions(tuple(positions))
    return TensorValue((batch, channels, *fixed(shape_of(node)[2:])))


def padding(walk: Walk, node: fx.Node) -> TensorValue:
    """Padding of positions; dimensions are given from the last to the first."""
    axes = list(walk.axes(source_of(node)))
    given = argument(node, 1, "pad")
    if not isinstance(given, tuple | list):
        raise Unfollowed("pads by numbers that are computed")
    pads = [size_of(walk.size(pad)) for pad in given]
    if any(moves(walk.size(pad)) for pad in given):
        raise Unfollowed("pads by a number of channels")
    for dim in {-1 - i // 2 for i, pad in enumerate(pads) if pad != 0}:
        if moves(axes[dim]):
            raise Unfollowed("changes the number of channels by a fixed amount")
        axes[dim] = fixed(shape_of(node))[dim]
    return TensorValue(tuple(axes))
