"""Operations that trade channels for positions, or deal channels out anew."""

from collections.abc import Callable
from typing import Any

from torch import fx

from joslim.tracing.channels import Runs, fixed, moves
from joslim.tracing.graph import shape_of
from joslim.tracing.rules.arguments import argument, layer_of, source_of
from joslim.tracing.rules.layers import keep_positions
from joslim.tracing.values import TensorValue
from joslim.tracing.walk import Walk


def pixel_shuffle(walk: Walk, node: fx.Node) -> TensorValue:
    """Each ``r * r`` neighbouring channels as ``r`` rows and columns of one."""
    return _traded(walk, node, "upscale_factor", walk.channels.divide)


def pixel_unshuffle(walk: Walk, node: fx.Node) -> TensorValue:
    """The reverse of `pixel_shuffle`."""
    return _traded(walk, node, "downscale_factor", walk.channels.scale)


def _traded(
    walk: Walk, node: fx.Node, name: str, trade: Callable[[Runs, int], Runs]
) -> TensorValue:
    factor = getattr(layer_of(walk, node), name, None) or argument(node, 1, name)
    *batch, channels, height, width = walk.axes(source_of(node))
    keep_positions((height, width))
    return TensorValue((*batch, trade(channels, factor**2), *fixed(shape_of(node)[-2:])))


def channel_shuffle(walk: Walk, node: fx.Node) -> TensorValue:
    """One channel of each of ``groups`` in turn, which then share their channels."""
    layer: Any = layer_of(walk, node)
    groups = layer.groups if layer else argument(node, 1, "groups")
    batch, channels, *positions = walk.axes(source_of(node))
    if moves(channels):
        part = walk.channels.split(channels, groups, f"node '{node.name}'")
        channels = walk.channels.scale(part, groups)
    return TensorValue((batch, channels, *positions))
