"""Which rule follows channels through which operation.

A rule takes the walk and a node and returns what the node gives, in terms of channels. To support
an operation, add its rule to a table here; one without a rule, or whose rule gives up, freezes the
channels that flow into it.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import Permute, stochastic_depth

from joslim.tracing import control_flow
from joslim.tracing.channels import Unfollowed, fixed, size_of
from joslim.tracing.graph import Shape, measured_macs, result_of
from joslim.tracing.rewrites.attention import SelfAttention, shift_mask
from joslim.tracing.rules import functional, layers, parts, pointwise, products, shapes, sizes
from joslim.tracing.values import Size, TensorValue, Value, constant, runs_in
from joslim.tracing.walk import Walk

Rule = Callable[[Walk, fx.Node], Value]

MODULES: dict[Any, Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), layers.convolution),
    **dict.fromkeys((nn.Linear, NonDynamicallyQuantizableLinear), layers.linear),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), layers.batch_norm),
    nn.LayerNorm: layers.layer_norm,
    LayerNorm2d: layers.layer_norm_2d,
    nn.GroupNorm: layers.group_norm,
    **dict.fromkeys((nn.MultiheadAttention, SelfAttention), layers.attention),
    **dict.fromkeys((nn.SELU, nn.CELU, nn.Softplus, nn.Softmax), pointwise.elementwise),
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU), pointwise.elementwise),
    **dict.fromkeys((nn.SiLU, nn.Mish, nn.Tanh, nn.Sigmoid), pointwise.elementwise),
    **dict.fromkeys((nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh), pointwise.elementwise),
    **dict.fromkeys(pointwise.IDENTITIES, pointwise.elementwise),
    **dict.fromkeys((nn.MaxPool2d, nn.AvgPool2d, nn.AvgPool1d), pointwise.spatial),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d), pointwise.spatial),
    **dict.fromkeys((nn.ZeroPad2d, nn.ReflectionPad2d, nn.Upsample), pointwise.spatial),
    **dict.fromkeys((nn.ConstantPad2d, nn.ReplicationPad2d), pointwise.spatial),
    nn.Flatten: shapes.flatten,
    Permute: shapes.permute,
}

FUNCTIONS: dict[Any, Rule] = {
    **dict.fromkeys((F.relu, F.relu6, F.leaky_relu, F.gelu, F.silu), pointwise.elementwise),
    **dict.fromkeys((F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh), pointwise.elementwise),
    **dict.fromkeys((F.mish, F.elu, F.softplus, F.hardtanh, F.normalize), pointwise.elementwise),
    **dict.fromkeys((F.softmax, torch.softmax, F.log_softmax), pointwise.elementwise),
    **dict.fromkeys((torch.relu, torch.sigmoid, torch.tanh), pointwise.elementwise),
    **dict.fromkeys((torch.rsqrt, torch.sqrt, torch.exp, torch.square), pointwise.elementwise),
    **dict.fromkeys((torch.neg, torch.abs, torch.zeros_like), pointwise.elementwise),
    **dict.fromkeys((operator.neg, operator.pow, torch.pow), pointwise.broadcast),
    **dict.fromkeys((torch.addcmul, torch.maximum, torch.minimum), pointwise.broadcast),
    torch.clamp: pointwise.broadcast,
    **dict.fromkeys((operator.imul, operator.isub), pointwise.broadcast),
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), functional.convolution),
    F.linear: functional.linear,
    F.batch_norm: functional.batch_norm,
    **dict.fromkeys((F.layer_norm, F.rms_norm), functional.layer_norm),
    F.group_norm: functional.group_norm,
    **dict.fromkeys((F.dropout, stochastic_depth), pointwise.elementwise),
    **dict.fromkeys((F.max_pool2d, F.avg_pool2d), pointwise.spatial),
    **dict.fromkeys((F.adaptive_avg_pool2d, F.adaptive_max_pool2d), pointwise.spatial),
    F.interpolate: pointwise.spatial,
    F.pad: pointwise.padding,
    torch.roll: pointwise.roll,
    F.scaled_dot_product_attention: products.attention,
    **dict.fromkeys((operator.matmul, torch.matmul), products.matrix_product),
    **dict.fromkeys((torch.mean, torch.sum, torch.amax, torch.amin), parts.reduction),
    **dict.fromkeys((torch.norm, torch.var, torch.std), parts.reduction),
    **dict.fromkeys((operator.sub, operator.truediv, operator.iadd), pointwise.broadcast),
    **dict.fromkeys((operator.add, operator.mul), pointwise.broadcast),
    **dict.fromkeys((torch.add, torch.sub, torch.mul, torch.div), pointwise.broadcast),
    torch.flatten: shapes.flatten,
    torch.reshape: shapes.reshape,
    torch.permute: shapes.permute,
    **dict.fromkeys((torch.transpose, torch.swapaxes), shapes.transpose),
    torch.squeeze: shapes.squeeze,
    torch.unsqueeze: shapes.unsqueeze,
    torch.cat: shapes.concatenate,
    torch.chunk: shapes.chunk,
    torch.split: parts.split,
    torch.unbind: parts.unbind,
    torch.stack: parts.stack,
    shift_mask: shapes.unaffected,
    operator.getitem: shapes.index,
    getattr: shapes.attribute,
    **dict.fromkeys((operator.eq, operator.ne, operator.lt), sizes.compare_sizes),
    **dict.fromkeys((operator.le, operator.gt, operator.ge), sizes.compare_sizes),
    control_flow.decided: sizes.decided,
}

METHODS: dict[Any, Rule] = {
    **dict.fromkeys(("relu", "sigmoid", "tanh", "rsqrt", "contiguous"), pointwise.elementwise),
    **dict.fromkeys(("relu_", "sigmoid_", "tanh_"), pointwise.elementwise),
    **dict.fromkeys(("sqrt", "square", "exp", "neg", "abs", "softmax"), pointwise.elementwise),
    **dict.fromkeys(("to", "float", "type_as", "clone", "detach"), pointwise.elementwise),
    **dict.fromkeys(("add", "add_", "mul", "sub", "div", "clamp"), pointwise.broadcast),
    **dict.fromkeys(("mul_", "sub_", "div_", "clamp_", "pow", "addcmul"), pointwise.broadcast),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "norm", "var", "std"), parts.reduction),
    "max": parts.extremum,
    "roll": pointwise.roll,
    "matmul": products.matrix_product,
    "flatten": shapes.flatten,
    "unflatten": shapes.unflatten,
    **dict.fromkeys(("view", "reshape"), shapes.reshape),
    "permute": shapes.permute,
    **dict.fromkeys(("transpose", "swapaxes"), shapes.transpose),
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.unsqueeze,
    "expand": shapes.expand,
    "expand_as": pointwise.broadcast,
    **dict.fromkeys(("view_as", "reshape_as"), shapes.reshape_as),
    "chunk": shapes.chunk,
    "split": parts.split,
    "unbind": parts.unbind,
    "size": shapes.shape,
    "dim": shapes.unaffected,
}

SIZES: dict[Any, Rule] = {
    operator.mul: sizes.multiply_sizes,
    operator.floordiv: sizes.divide_sizes,
    operator.mod: sizes.remainder_of_sizes,
}
"""Operations on integers, where the same operation on tensors is another one."""


def apply_rule(walk: Walk, node: fx.Node) -> Value:
    """What ``node`` gives; freezes what flows into it if there is no rule that follows it."""
    kind: Any = node.target
    if node.op == "call_module":
        kind = type(walk.modules[str(node.target)])
        rule = MODULES.get(kind)
    elif node.op == "call_method":
        rule = METHODS.get(kind)
    else:
        on_sizes = isinstance(result_of(node), int) and kind in SIZES
        rule = (SIZES if on_sizes else FUNCTIONS).get(kind)
    value: Value = None
    try:
        if rule is None:
            raise Unfollowed("has no rule for them")
        value = rule(walk, node)
        _check(walk, node, value)
    except Unfollowed as reason:
        walk.freeze(runs_in(value), f"node '{node.name}' {reason}")
        return _freeze(walk, node, f"({getattr(kind, '__name__', kind)}) {reason}")
    return value


def _freeze(walk: Walk, node: fx.Node, reason: str) -> Value:
    for source in node.all_input_nodes:
        walk.freeze(runs_in(walk.values.get(source)), f"node '{node.name}' {reason}")
    if node.op == "call_module":  # another call of the same layer may have been followed
        for name, parameter in walk.modules[str(node.target)].named_parameters():
            walk.own(node, f"{node.target}.{name}", fixed(parameter.shape))
    walk.measure_macs(node, measured_macs(node))
    return constant(result_of(node))


def read_parameter(walk: Walk, node: fx.Node) -> Value:
    """A bare parameter or buffer: its dimensions take on the channels that they meet."""
    result = result_of(node)
    path, _, leaf = str(node.target).rpartition(".")
    layer = walk.modules[path]
    if leaf not in layer._parameters and leaf not in layer._buffers:
        return constant(result)
    moving = len(result.sizes)
    if isinstance(layer, _ConvNd) and leaf == "weight":  # a kernel, and the inputs of each group
        moving = 2 if layer.groups == 1 else 1
    axes = tuple(
        walk.channels.new(str(node.target), size) if size > 1 and i < moving else fixed((size,))[0]
        for i, size in enumerate(result.sizes)
    )
    walk.own(node, str(node.target), axes)
    return TensorValue(axes)


def _check(walk: Walk, node: fx.Node, value: Value) -> None:
    """Compare with what the run gave, so that a wrong rule freezes and does no harm."""
    result = result_of(node)
    found: Any = None
    if isinstance(value, TensorValue):
        found = Shape(tuple(map(size_of, value.axes)))
    elif isinstance(value, Size):
        found = size_of(value.runs)
    if found is not None and found != result:
        raise Unfollowed(f"gives {result}, not {found} as its rule says")
    if walk.macs_of(node) != measured_macs(node):
        raise Unfollowed(
            f"costs {measured_macs(node)} MACs, not {walk.macs_of(node)} as its rule says"
        )
