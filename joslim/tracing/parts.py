"""One dimension taken apart: into several dimensions, or into as many tensors as it is long."""

from torch import fx

from joslim.tracing.arguments import argument, source_of
from joslim.tracing.channels import Unfollowed, moves, size_of
from joslim.tracing.shapes import reshaped
from joslim.tracing.walk import TensorValue, Value, Walk


def unflatten(walk: Walk, node: fx.Node) -> TensorValue:
    """One dimension as several."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 1, "dim") % len(axes)
    given = argument(node, 2, "sizes")
    if not isinstance(given, tuple | list):
        raise Unfollowed("takes a computed list of sizes")
    sizes = [None if size == -1 else walk.size(size) for size in given]
    return reshaped(walk, node, [*axes[:dim], *sizes, *axes[dim + 1 :]])


def unbind(walk: Walk, node: fx.Node) -> Value:
    """All places of one dimension, which vanishes."""
    axes = walk.axes(source_of(node))
    dim = argument(node, 1, "dim", 0) % len(axes)
    if moves(axes[dim]):
        raise Unfollowed("takes channels apart")
    return (TensorValue((*axes[:dim], *axes[dim + 1 :])),) * size_of(axes[dim])
