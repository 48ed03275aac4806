"""Layers with weights: what they tie, which tensors carry which channels, and what they cost."""

from math import prod

from torch import fx, nn

from joslim.tracing.channels import Axes, Runs, Unfollowed, fixed, moves, size_of
from joslim.tracing.graph import shape_of
from joslim.tracing.rules.arguments import layer_of, source_of
from joslim.tracing.values import TensorValue
from joslim.tracing.walk import Walk


def own_by_layer(walk: Walk, node: fx.Node, **tensors: Axes) -> None:
    """Note the dimensions of those tensors of the called layer that exist."""
    for name, axes in tensors.items():
        if getattr(layer_of(walk, node), name) is not None:
            walk.own(node, f"{node.target}.{name}", axes)


def images_in(batch: Runs) -> int:
    """Images, or parts of them, in a batch made of one image.

    Raises:
        Unfollowed: If their number depends on channels.
    """
    keep_positions((batch,))
    return size_of(batch)


def keep_positions(axes: Axes) -> None:
    """Refuse channels where a layer expects positions."""
    if any(map(moves, axes)):
        raise Unfollowed("slides over channels")


def convolution(walk: Walk, node: fx.Node) -> TensorValue:
    """Convolutions; a grouped one keeps whole groups, so its slices are prefixes too.

    The alternative, narrowing every group alike, needs a gather instead of a view and moves in much
    coarser steps: a convolution with 32 groups of 4 channels would have 4 widths, not 32.
    """
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    batch, inputs, *positions = walk.axes(source_of(node))
    keep_positions(tuple(positions))
    if len(positions) != len(layer.kernel_size):
        raise Unfollowed("takes a single image, not a batch")
    spatial = fixed(shape_of(node)[2:])
    kernel = fixed(layer.kernel_size)
    taps = images_in(batch) * prod(layer.kernel_size) * prod(map(size_of, spatial))
    name = str(node.target)
    if layer.groups == 1:
        outputs = walk.channels.new(name, layer.out_channels, members=[name])
        own_by_layer(walk, node, weight=(outputs, inputs, *kernel), bias=(outputs,))
        walk.count_macs(node, taps, outputs, inputs)
    else:
        per_group = layer.in_channels // layer.groups
        groups = walk.channels.divide(inputs, per_group)
        outputs = walk.channels.scale(groups, layer.out_channels // layer.groups)
        own_by_layer(walk, node, weight=(outputs, *fixed((per_group,)), *kernel), bias=(outputs,))
        walk.count_macs(node, taps * per_group, outputs)
        walk.follow(node, "groups", groups)
        walk.join(name, outputs)
    walk.follow(node, "in_channels", inputs)
    walk.follow(node, "out_channels", outputs)
    return TensorValue((batch, outputs, *spatial))


def linear(walk: Walk, node: fx.Node) -> TensorValue:
    """A linear layer over the last dimension, at every position of the others."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.Linear)
    *positions, inputs = walk.axes(source_of(node))
    name = str(node.target)
    outputs = walk.channels.new(name, layer.out_features, members=[name])
    own_by_layer(walk, node, weight=(outputs, inputs), bias=(outputs,))
    walk.count_macs(node, 1, *positions, outputs, inputs)
    walk.follow(node, "in_features", inputs)
    walk.follow(node, "out_features", outputs)
    return TensorValue((*positions, outputs))


def batch_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """Statistics and an affine map for each channel."""
    axes = walk.axes(source_of(node))
    channels = (axes[1],)
    own_by_layer(
        walk, node, weight=channels, bias=channels, running_mean=channels, running_var=channels
    )
    walk.follow(node, "num_features", *channels)
    return TensorValue(axes)


def layer_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """Statistics over the last dimensions, an affine map for each of their elements."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.LayerNorm)
    axes = walk.axes(source_of(node))
    normed = axes[-len(layer.normalized_shape) :]
    own_by_layer(walk, node, weight=normed, bias=normed)
    walk.follow(node, "normalized_shape", *normed)
    return TensorValue(axes)


def layer_norm_2d(walk: Walk, node: fx.Node) -> TensorValue:
    """Torchvision's layer norm over the channels of an image."""
    axes = walk.axes(source_of(node))
    own_by_layer(walk, node, weight=(axes[1],), bias=(axes[1],))
    walk.follow(node, "normalized_shape", axes[1])
    return TensorValue(axes)


def group_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """Statistics over groups of channels, which stay whole; or over all that there are."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.GroupNorm)
    axes = walk.axes(source_of(node))
    if layer.num_groups > 1:
        units = walk.channels.divide(axes[1], layer.num_channels // layer.num_groups)
        walk.follow(node, "num_groups", units)
    own_by_layer(walk, node, weight=(axes[1],), bias=(axes[1],))
    walk.follow(node, "num_channels", axes[1])
    return TensorValue(axes)


def attention(walk: Walk, node: fx.Node) -> TensorValue:
    """`nn.MultiheadAttention` checks its input against all of its heads."""
    raise Unfollowed("cuts the whole embedding into its heads")
