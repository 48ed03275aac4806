"""Layers with weights: what they tie, which tensors carry which channels, and what they cost."""

from math import prod

from torch import fx, nn
from torch.nn.modules.instancenorm import _InstanceNorm

from joslim.tracing.channels import Axes, Runs, Unfollowed, fixed, moves, size_of
from joslim.tracing.graph import shape_of
from joslim.tracing.rules.arguments import layer_of, source_of
from joslim.tracing.values import TensorValue
from joslim.tracing.walk import Walk


def own_by_layer(walk: Walk, node: fx.Node, **tensors: Axes) -> None:
    """Note the dimensions of those tensors of the called layer that exist."""
    for name, axes in tensors.items():
        if getattr(layer_of(walk, node), name, None) is not None:
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


def batched(walk: Walk, node: fx.Node) -> Axes:
    """The dimensions of images, signals or volumes: batch, channels, positions.

    Raises:
        Unfollowed: If there are more or fewer positions than the operation has in its name, as in
            ``Conv2d``: the first dimension is no batch then.
    """
    axes = walk.axes(source_of(node))
    layer = layer_of(walk, node)
    name = type(layer).__name__ if layer else getattr(node.target, "__name__", "")
    if name[-1:] == "d" and name[-2:-1].isdigit() and len(axes) != 2 + int(name[-2]):
        raise Unfollowed("takes a single image, not a batch")
    return axes


def convolution(walk: Walk, node: fx.Node) -> TensorValue:
    """Convolutions; a grouped one keeps whole groups, so its slices are prefixes too.

    The alternative, narrowing every group alike, needs a gather instead of a view and moves in much
    coarser steps: a convolution with 32 groups of 4 channels would have 4 widths, not 32.
    """
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    batch, inputs, *positions = batched(walk, node)
    keep_positions(tuple(positions))
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


def transposed_convolution(walk: Walk, node: fx.Node) -> TensorValue:
    """Transposed convolutions, whose weights have the inputs first; grouped as `convolution`."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    batch, inputs, *positions = batched(walk, node)
    keep_positions(tuple(positions))
    kernel = fixed(layer.kernel_size)
    taps = images_in(batch) * prod(layer.kernel_size) * prod(map(size_of, positions))
    name = str(node.target)
    if layer.groups == 1:
        outputs = walk.channels.new(name, layer.out_channels, members=[name])
        own_by_layer(walk, node, weight=(inputs, outputs, *kernel), bias=(outputs,))
        walk.count_macs(node, taps, outputs, inputs)
    else:
        per_group = layer.out_channels // layer.groups
        groups = walk.channels.divide(inputs, layer.in_channels // layer.groups)
        outputs = walk.channels.scale(groups, per_group)
        own_by_layer(walk, node, weight=(inputs, *fixed((per_group,)), *kernel), bias=(outputs,))
        walk.count_macs(node, taps * per_group, inputs)
        walk.follow(node, "groups", groups)
        walk.join(name, outputs)
    walk.follow(node, "in_channels", inputs)
    walk.follow(node, "out_channels", outputs)
    return TensorValue((batch, outputs, *fixed(shape_of(node)[2:])))


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


def embedding(walk: Walk, node: fx.Node) -> TensorValue:
    """A row of channels for each index, as for positions."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.Embedding)
    if layer.max_norm is not None:
        raise Unfollowed("changes its weights as it runs")
    indices = walk.axes(source_of(node))
    keep_positions(indices)
    name = str(node.target)
    outputs = walk.channels.new(name, layer.embedding_dim, members=[name])
    own_by_layer(walk, node, weight=(*fixed((layer.num_embeddings,)), outputs))
    walk.follow(node, "embedding_dim", outputs)
    return TensorValue((*indices, outputs))


def channel_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """Batch and instance norm: statistics and an affine map for each channel."""
    axes = walk.axes(source_of(node))
    if isinstance(layer_of(walk, node), _InstanceNorm):
        axes = batched(walk, node)
    channels = (axes[1],)
    own_by_layer(
        walk, node, weight=channels, bias=channels, running_mean=channels, running_var=channels
    )
    walk.follow(node, "num_features", *channels)
    return TensorValue(axes)


def layer_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """Layer and RMS norm: over the last dimensions, an affine map for each of their elements."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.LayerNorm | nn.RMSNorm)
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


def prelu(walk: Walk, node: fx.Node) -> TensorValue:
    """A slope for each channel, or one for all."""
    layer = layer_of(walk, node)
    assert isinstance(layer, nn.PReLU)
    axes = walk.axes(source_of(node))
    if layer.num_parameters == 1:
        own_by_layer(walk, node, weight=fixed((1,)))
    else:
        own_by_layer(walk, node, weight=(axes[1],))
        walk.follow(node, "num_parameters", axes[1])
    return TensorValue(axes)


def attention(walk: Walk, node: fx.Node) -> TensorValue:
    """`nn.MultiheadAttention` checks its input against all of its heads."""
    raise Unfollowed("cuts the whole embedding into its heads")
