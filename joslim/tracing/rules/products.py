"""Products of two tensors, neither of which is a weight: matrix products, attention."""

from torch import fx

from joslim.tracing.channels import Axes, Unfollowed, moves
from joslim.tracing.graph import result_of
from joslim.tracing.rules.arguments import argument
from joslim.tracing.rules.pointwise import broadcast_axes
from joslim.tracing.values import TensorValue
from joslim.tracing.walk import Walk


def matrix_product(walk: Walk, node: fx.Node) -> TensorValue:
    """Matrices in the last two dimensions; those before are broadcast."""
    first, second = (walk.axes(operand) for operand in node.args)
    if min(len(first), len(second)) < 2:
        raise Unfollowed("multiplies by a vector")
    return TensorValue(_product(walk, node, first, second))


def attention(walk: Walk, node: fx.Node) -> TensorValue:
    """Scaled dot products, with a mask or without: ``(…, L, D), (…, S, D), (…, S, E)``."""
    names = ("query", "key", "value")
    query, key, value = (walk.axes(argument(node, i, name)) for i, name in enumerate(names))
    if argument(node, 7, "enable_gqa", False):
        raise Unfollowed("shares keys between heads")
    logits = _product(walk, node, query, (*key[:-2], key[-1], key[-2]))
    if argument(node, 5, "is_causal", False) and (moves(query[-2]) or moves(key[-2])):
        raise Unfollowed("lets channels see those before them")
    mask = argument(node, 3, "attn_mask")
    if isinstance(mask, fx.Node) and result_of(mask) is not None:
        logits = broadcast_axes(walk, node, logits, walk.axes(mask))
    return TensorValue(_product(walk, node, logits, value))


def _product(walk: Walk, node: fx.Node, first: Axes, second: Axes) -> Axes:
    batch = broadcast_axes(walk, node, first[:-2], second[:-2])
    rows, inner, columns = first[-2], walk.tie(first[-1], second[-2], node), second[-1]
    walk.count_macs(node, 1, *batch, rows, inner, columns)
    return (*batch, rows, columns)
