"""Which rule follows channels through which operation.

A rule takes the walk and a node and returns what the node gives, in terms of channels. What works
element by element needs none: PyTorch says so of its operators (`joslim.tracing.operators`). Any
other operation without a rule, or whose rule gives up, freezes the channels that flow into it.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn
from torch.nn.modules import batchnorm, instancenorm, padding, pooling, upsampling
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import Permute

from joslim.errors import TracingError
from joslim.tracing import control_flow
from joslim.tracing.channels import Unfollowed, fixed, size_of
from joslim.tracing.graph import Shape, measured_macs, result_of
from joslim.tracing.operators import is_pointwise
from joslim.tracing.rewrites.attention import SelfAttention, shift_mask
from joslim.tracing.rules import (
    functional,
    layers,
    parts,
    pointwise,
    products,
    shapes,
    shuffles,
    sizes,
)
from joslim.tracing.values import Size, TensorValue, Value, constant, runs_in
from joslim.tracing.walk import Walk

Rule = Callable[[Walk, fx.Node], Value]


def _layers(*modules: Any, without: tuple[str, ...] = ()) -> list[type[nn.Module]]:
    """The public layers of modules of `torch.nn.modules`."""
    names = [(module, name) for module in modules for name in module.__all__]
    return [getattr(module, name) for module, name in names if not name.startswith(without)]


MODULES: dict[Any, Rule] = {
    **dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), layers.convolution),
    **dict.fromkeys(
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), layers.transposed_convolution
    ),
    **dict.fromkeys((nn.Linear, NonDynamicallyQuantizableLinear), layers.linear),
    nn.Embedding: layers.embedding,
    **dict.fromkeys(_layers(batchnorm, instancenorm, without=("Lazy",)), layers.channel_norm),
    **dict.fromkeys((nn.LayerNorm, nn.RMSNorm), layers.layer_norm),
    LayerNorm2d: layers.layer_norm_2d,
    nn.GroupNorm: layers.group_norm,
    nn.PReLU: layers.prelu,
    **dict.fromkeys((nn.MultiheadAttention, SelfAttention), layers.attention),
    **dict.fromkeys((nn.Softmax, nn.LogSoftmax, nn.Softmin), pointwise.elementwise),
    **dict.fromkeys(_layers(pooling, without=("MaxUnpool", "Fractional")), pointwise.spatial),
    **dict.fromkeys(_layers(padding, upsampling), pointwise.spatial),
    nn.GLU: parts.gated,
    nn.PixelShuffle: shuffles.pixel_shuffle,
    nn.PixelUnshuffle: shuffles.pixel_unshuffle,
    nn.ChannelShuffle: shuffles.channel_shuffle,
    nn.Flatten: shapes.flatten,
    nn.Unflatten: shapes.unflatten,
    Permute: shapes.permute,
}

FUNCTIONS: dict[Any, Rule] = {
    **dict.fromkeys((F.softmax, torch.softmax, F.log_softmax), pointwise.elementwise),
    **dict.fromkeys((torch.log_softmax, F.normalize), pointwise.elementwise),
    **dict.fromkeys((F.conv1d, F.conv2d, F.conv3d), functional.convolution),
    F.linear: functional.linear,
    **dict.fromkeys((F.batch_norm, F.instance_norm), functional.channel_norm),
    **dict.fromkeys((F.layer_norm, F.rms_norm), functional.layer_norm),
    F.group_norm: functional.group_norm,
    **dict.fromkeys((F.prelu, torch.prelu), functional.prelu),
    **dict.fromkeys((F.max_pool1d, F.max_pool2d, F.max_pool3d), pointwise.spatial),
    **dict.fromkeys((F.avg_pool1d, F.avg_pool2d, F.avg_pool3d), pointwise.spatial),
    **dict.fromkeys((F.adaptive_avg_pool1d, F.adaptive_avg_pool2d), pointwise.spatial),
    **dict.fromkeys((F.adaptive_avg_pool3d, F.adaptive_max_pool1d), pointwise.spatial),
    **dict.fromkeys((F.adaptive_max_pool2d, F.adaptive_max_pool3d), pointwise.spatial),
    **dict.fromkeys((F.lp_pool1d, F.lp_pool2d, F.interpolate), pointwise.spatial),
    F.pad: pointwise.padding,
    torch.roll: pointwise.roll,
    F.scaled_dot_product_attention: products.attention,
    **dict.fromkeys((operator.matmul, torch.matmul, torch.bmm), products.matrix_product),
    **dict.fromkeys((torch.mean, torch.sum, torch.amax, torch.amin), parts.reduction),
    **dict.fromkeys((torch.norm, torch.var, torch.std), parts.reduction),
    **dict.fromkeys((torch.logsumexp, torch.prod), parts.reduction),
    **dict.fromkeys((torch.max, torch.min), parts.extremum),
    F.glu: parts.gated,
    F.pixel_shuffle: shuffles.pixel_shuffle,
    F.pixel_unshuffle: shuffles.pixel_unshuffle,
    F.channel_shuffle: shuffles.channel_shuffle,
    torch.flatten: shapes.flatten,
    torch.unflatten: shapes.unflatten,
    torch.reshape: shapes.reshape,
    torch.permute: shapes.permute,
    **dict.fromkeys((torch.transpose, torch.swapaxes, torch.swapdims), shapes.transpose),
    **dict.fromkeys((torch.movedim, torch.moveaxis), shapes.move_dims),
    torch.squeeze: shapes.squeeze,
    torch.unsqueeze: shapes.unsqueeze,
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), parts.concatenate),
    torch.chunk: parts.chunk,
    torch.split: parts.split,
    torch.unbind: parts.unbind,
    torch.stack: parts.stack,
    shift_mask: shapes.independent,
    operator.getitem: shapes.index,
    getattr: shapes.attribute,
    **dict.fromkeys((operator.eq, operator.ne, operator.lt), sizes.compare),
    **dict.fromkeys((operator.le, operator.gt, operator.ge), sizes.compare),
    control_flow.decided: sizes.decided,
}

METHODS: dict[Any, Rule] = {
    **dict.fromkeys(("contiguous", "softmax", "log_softmax"), pointwise.elementwise),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "norm", "var", "std"), parts.reduction),
    **dict.fromkeys(("logsumexp", "prod"), parts.reduction),
    **dict.fromkeys(("max", "min"), parts.extremum),
    "roll": pointwise.roll,
    **dict.fromkeys(("matmul", "bmm"), products.matrix_product),
    "flatten": shapes.flatten,
    "unflatten": shapes.unflatten,
    **dict.fromkeys(("view", "reshape"), shapes.reshape),
    "permute": shapes.permute,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), shapes.transpose),
    **dict.fromkeys(("movedim", "moveaxis"), shapes.move_dims),
    "squeeze": shapes.squeeze,
    "unsqueeze": shapes.unsqueeze,
    "expand": shapes.expand,
    "expand_as": pointwise.broadcast,
    **dict.fromkeys(("view_as", "reshape_as"), shapes.reshape_as),
    "chunk": parts.chunk,
    "split": parts.split,
    "unbind": parts.unbind,
    "size": shapes.shape,
    "dim": shapes.independent,
}

SIZES: dict[Any, Rule] = {
    operator.mul: sizes.multiply_sizes,
    operator.floordiv: sizes.divide_sizes,
    operator.mod: sizes.remainder_of_sizes,
}
"""Operations on integers, where the same operation on tensors is another one."""


def register(operation: type[nn.Module] | Callable[..., Any] | str, rule: Rule) -> None:
    """Teach `joslim.slimmable` to follow channels through an operation.

    A wrong rule does no harm in silence: what it says is compared with what the operation gave, the
    network runs at narrow widths before it is returned, and ``verify()`` proves the rest.

    Args:
        operation: A type of modules, which are then one operation each and not looked into; a
            function that `torch.fx` keeps whole, such as one under `torch.fx.wrap`; or the name of
            a tensor's method.
        rule: Takes the walk and the graph's node; returns what the node gives, as a `TensorValue`
            with an axis for each dimension. Raises `Unfollowed` where it cannot say.

    Raises:
        TracingError: If ``operation`` is none of these.
    """
    if isinstance(operation, str):
        METHODS[operation] = rule
    elif isinstance(operation, type) and issubclass(operation, nn.Module):
        MODULES[operation] = rule
    elif callable(operation) and not isinstance(operation, type | nn.Module):
        FUNCTIONS[operation] = rule
    else:
        raise TracingError(
            f"a rule is for a type of modules, a function or the name of a method, not for "
            f"{operation!r}"
        )


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
    if rule is None and is_pointwise(node) and not _owns_tensors(walk, node):
        rule = pointwise.broadcast
    value: Value = None
    try:
        if rule is None:
            is_number = isinstance(result_of(node), int | float)
            raise Unfollowed("computes with their number" if is_number else "has no rule for them")
        value = rule(walk, node)
        _check(walk, node, value)
    except Unfollowed as reason:
        walk.freeze(runs_in(value), f"node '{node.name}' {reason}")
        return _freeze(walk, node, f"({getattr(kind, '__name__', kind)}) {reason}")
    return value


def _owns_tensors(walk: Walk, node: fx.Node) -> bool:
    layer = walk.modules[str(node.target)] if node.op == "call_module" else nn.Identity()
    return any(True for _ in (*layer.parameters(), *layer.buffers()))


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
