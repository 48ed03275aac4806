"""Layers that are called as functions of their parameters, as subclasses of PyTorch's layers do.

The dimensions of a parameter take on the channels of what it is applied to, also if it is computed
with on the way, such as a standardised weight.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

from joslim.tracing.channels import Axes, Runs, Unfollowed, count, fixed, moves, size_of
from joslim.tracing.graph import shape_of
from joslim.tracing.rules.arguments import argument, source_of
from joslim.tracing.rules.layers import images_in, keep_positions
from joslim.tracing.values import Size, TensorValue
from joslim.tracing.walk import Walk


def convolution(walk: Walk, node: fx.Node) -> TensorValue:
    """``F.conv1d`` and the like; a grouped one keeps whole groups."""
    batch, inputs, *positions = walk.axes(source_of(node))
    keep_positions(tuple(positions))
    weight = argument(node, 1, "weight")
    made, read, *kernel = walk.axes(weight)
    walk.channels.settle(tuple(kernel))
    keep_positions(tuple(kernel))
    spatial = fixed(shape_of(node)[2:])
    taps = images_in(batch) * prod(map(size_of, (*kernel, *spatial)))
    groups = argument(node, 6, "groups", 1)
    owner = _owner(weight)
    if groups == 1:
        outputs = _outputs(walk, node, owner, made)
        walk.tie(read, inputs, node)
        walk.count_macs(node, taps, outputs, inputs)
    else:
        per_group = size_of(read)
        walk.channels.settle((read,))
        if moves(read):
            raise Unfollowed("reads another number of channels in each group")
        units = walk.channels.divide(inputs, per_group)
        outputs = walk.channels.scale(units, size_of(made) // size_of(units))
        _expect(walk, node, [groups], [units])
        walk.tie(outputs, made, node)
        walk.count_macs(node, taps * per_group, outputs)
        walk.join(owner, outputs)
    _tie_vectors(walk, node, outputs, [(2, "bias")])
    if isinstance(walk.modules.get(owner), _ConvNd):
        walk.describe(owner, "in_channels", inputs)
        walk.describe(owner, "out_channels", outputs)
    return TensorValue((batch, outputs, *spatial))


def linear(walk: Walk, node: fx.Node) -> TensorValue:
    """``F.linear``."""
    *positions, inputs = walk.axes(source_of(node))
    weight = argument(node, 1, "weight")
    made, read = walk.axes(weight)
    owner = _owner(weight)
    outputs = _outputs(walk, node, owner, made)
    walk.tie(read, inputs, node)
    _tie_vectors(walk, node, outputs, [(2, "bias")])
    walk.count_macs(node, 1, *positions, outputs, inputs)
    if isinstance(walk.modules.get(owner), nn.Linear):
        walk.describe(owner, "in_features", inputs)
        walk.describe(owner, "out_features", outputs)
    return TensorValue((*positions, outputs))


def channel_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """``F.batch_norm`` and ``F.instance_norm``."""
    axes = walk.axes(source_of(node))
    vectors = [(1, "running_mean"), (2, "running_var"), (3, "weight"), (4, "bias")]
    for vector in _tie_vectors(walk, node, axes[1], vectors):
        if isinstance(walk.modules.get(_owner(vector)), _NormBase):
            walk.describe(_owner(vector), "num_features", axes[1])
    return TensorValue(axes)


def layer_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """``F.layer_norm`` and ``F.rms_norm``."""
    axes = walk.axes(source_of(node))
    shape = argument(node, 1, "normalized_shape")
    if not isinstance(shape, tuple | list):
        raise Unfollowed("normalises over dimensions that are computed")
    normed = axes[-len(shape) :]
    _expect(walk, node, shape, normed)
    for position, name in ((2, "weight"), (3, "bias")):
        parameter = argument(node, position, name)
        if isinstance(parameter, fx.Node):
            for first, second in zip(normed, walk.axes(parameter), strict=True):
                walk.tie(first, second, node)
    return TensorValue(axes)


def group_norm(walk: Walk, node: fx.Node) -> TensorValue:
    """``F.group_norm``: groups stay whole; one group is all the channels that there are."""
    axes = walk.axes(source_of(node))
    groups = argument(node, 1, "num_groups")
    if groups != 1:
        number = size_of(walk.size(groups))
        units = walk.channels.divide(axes[1], size_of(axes[1]) // number)
        _expect(walk, node, [groups], [units])
    for vector in _tie_vectors(walk, node, axes[1], [(2, "weight"), (3, "bias")]):
        if isinstance(walk.modules.get(_owner(vector)), nn.GroupNorm):
            walk.describe(_owner(vector), "num_channels", axes[1])
    return TensorValue(axes)


def prelu(walk: Walk, node: fx.Node) -> TensorValue:
    """``F.prelu``: a slope for each channel, or one for all."""
    axes = walk.axes(source_of(node))
    if size_of(walk.axes(argument(node, 1, "weight"))[0]) > 1:
        _tie_vectors(walk, node, axes[1], [(1, "weight")])
    return TensorValue(axes)


def _outputs(walk: Walk, node: fx.Node, owner: str, made: Runs) -> Runs:
    """New channels, named after the layer that owns the weight, for the rows of a weight."""
    outputs = walk.channels.new(owner, size_of(made), members=[owner])
    return walk.tie(outputs, made, node)


def _tie_vectors(
    walk: Walk, node: fx.Node, channels: Runs, operands: Sequence[tuple[int, str]]
) -> list[fx.Node]:
    """Tie those operands that are tensors with an element for each channel; returns them."""
    found = [argument(node, position, name) for position, name in operands]
    vectors = [vector for vector in found if isinstance(vector, fx.Node)]
    for vector in vectors:
        (axis,) = walk.axes(vector)
        walk.tie(channels, axis, node)
    return vectors


def _expect(walk: Walk, node: fx.Node, given: Sequence[Any], axes: Axes | list[Runs]) -> None:
    """Check that numbers which the operation was given follow ``axes`` at all widths."""
    written = []
    for number, runs in zip(given, axes, strict=True):
        if isinstance(number, fx.Node):
            value = walk.value(number)
            if not isinstance(value, Size) or count(value.runs) != count(runs):
                raise Unfollowed("gives channels a size that belongs to others")
        else:
            written.append((number, runs))
    walk.follow_numbers(node, [number for number, _ in written], [runs for _, runs in written])


def _owner(parameter: fx.Node) -> str:
    """The layer whose weight ``parameter`` is or was made from, or the bare parameter's name."""
    while parameter.op != "get_attr" and parameter.all_input_nodes:
        parameter = parameter.all_input_nodes[0]
    path, _, leaf = str(parameter.target).rpartition(".")
    return path if path and leaf in ("weight", "running_mean") else str(parameter.target)
