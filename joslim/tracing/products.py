"""Products of tensors: linear maps by bare weights, matrix products, attention."""

from math import prod

from torch import fx, nn

from joslim.tracing.arguments import argument, source_of
from joslim.tracing.channels import Axes, Runs, Unfollowed, moves, size_of
from joslim.tracing.pointwise import broadcast_axes
from joslim.tracing.walk import TensorValue, Walk, owner_of


def functional_linear(walk: Walk, node: fx.Node) -> TensorValue:
    """A linear map over the last dimension by a weight that is no layer's own operation."""
    *positions, inputs = walk.axes(source_of(node))
    weight, bias = argument(node, 1, "weight"), argument(node, 2, "bias")
    outputs, read = walk.axes(weight)
    layer = owner_of(weight)
    of_layer = weight.op == "get_attr" and isinstance(walk.modules[layer], nn.Linear)
    name = layer if of_layer else str(weight.target) if weight.op == "get_attr" else node.name
    outputs = walk.tie(walk.channels.new(name, size_of(outputs), members=[name]), outputs, node)
    walk.tie(read, inputs, node)
    if bias is not None:
        walk.tie(outputs, walk.axes(bias)[0], node)
    if of_layer:
        walk.follow(weight, "in_features", inputs)
        walk.follow(weight, "out_features", outputs)
    _count_macs(walk, node, (*positions, outputs, inputs))
    return TensorValue((*positions, outputs))


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
    if mask is not None:
        logits = broadcast_axes(walk, node, logits, walk.axes(mask))
    return TensorValue(_product(walk, node, logits, value))


def _product(walk: Walk, node: fx.Node, first: Axes, second: Axes) -> Axes:
    batch = broadcast_axes(walk, node, first[:-2], second[:-2])
    rows, inner, columns = first[-2], walk.tie(first[-1], second[-2], node), second[-1]
    _count_macs(walk, node, (*batch, rows, inner, columns))
    return (*batch, rows, columns)


def _count_macs(walk: Walk, node: fx.Node, axes: tuple[Runs, ...]) -> None:
    still = prod(size_of(axis) for axis in axes if not moves(axis))
    walk.count_macs(node, still, *(axis for axis in axes if moves(axis)))
