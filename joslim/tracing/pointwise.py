"""Operations that treat every channel alike: activations, arithmetic, pooling, means."""

from functools import partial, reduce
from itertools import zip_longest

from torch import fx, nn
from torchvision.ops import StochasticDepth

from joslim.tracing.arguments import argument, layer_of, source_of
from joslim.tracing.channels import Axes, Runs, Unfollowed, fixed, moves, size_of
from joslim.tracing.graph import shape_of
from joslim.tracing.layers import keep_positions
from joslim.tracing.walk import TensorValue, Value, Walk

IDENTITIES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.Identity, StochasticDepth)


def elementwise(walk: Walk, node: fx.Node) -> TensorValue:
    """One operand, element by element."""
    source = source_of(node)
    layer = layer_of(walk, node)
    in_place = getattr(layer, "inplace", False) or node.kwargs.get("inplace")
    if isinstance(layer, IDENTITIES) or in_place:
        walk.alias(node, source)
    return TensorValue(walk.axes(source))


def broadcast(walk: Walk, node: fx.Node) -> Value:
    """Tensors and numbers, element by element."""
    values = map(walk.value, node.all_input_nodes)
    operands = [value.axes for value in values if isinstance(value, TensorValue)]
    return TensorValue(reduce(partial(_broadcast, walk, node), operands))


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
    pads = argument(node, 1, "pad")
    if not isinstance(pads, tuple | list) or not all(isinstance(p, int) for p in pads):
        raise Unfollowed("pads by numbers that are computed")
    for dim in {-1 - i // 2 for i, pad in enumerate(pads) if pad != 0}:
        if moves(axes[dim]):
            raise Unfollowed("changes the number of channels by a fixed amount")
        axes[dim] = fixed(shape_of(node))[dim]
    return TensorValue(tuple(axes))


def mean(walk: Walk, node: fx.Node) -> TensorValue:
    """A mean over some dimensions, which become 1 or vanish."""
    axes = walk.axes(source_of(node))
    given = argument(node, 1, "dim")
    dims = (given,) if isinstance(given, int) else given
    if not isinstance(dims, tuple | list) or not all(isinstance(dim, int) for dim in dims):
        raise Unfollowed("reduces dimensions that are not written out")
    reduced = {dim % len(axes) for dim in dims}
    if argument(node, 2, "keepdim", False):
        one = fixed((1,))[0]
        return TensorValue(tuple(one if i in reduced else axis for i, axis in enumerate(axes)))
    return TensorValue(tuple(axis for i, axis in enumerate(axes) if i not in reduced))
