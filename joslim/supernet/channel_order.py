"""The order of channels inside a group: any order is the same network, if all tensors agree on it.

An order is a permutation of a group's channels, ``(channels,)``: where each one stood before.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from joslim.supernet.slicing import tensor_at
from joslim.tracing import Axis, NetworkTrace, Part


def reordered(
    trace: NetworkTrace, model: nn.Module, orders: Mapping[int, Tensor]
) -> dict[str, Tensor]:
    """Copies of the parameters and buffers that change, with the channels of groups in new orders.

    Args:
        trace: Says which dimensions of which tensors carry which groups.
        model: The full network; left as it is.
        orders: An order for each index of a group whose channels change places.
    """
    moved = {}
    for name, axes in trace.tensors.items():
        tensor = tensor_at(model, name)
        for dim, axis in enumerate(axes):
            if any(part.group in orders for part in axis):
                tensor = tensor.index_select(dim, _positions(axis, orders).to(tensor.device))
                moved[name] = tensor
    return moved


def best_first(trace: NetworkTrace, model: nn.Module) -> dict[int, Tensor]:
    """The order of each group's channels that puts the most important first; frozen groups stay."""
    return {
        index: importance(trace, model, index).argsort(descending=True, stable=True).cpu()
        for index, group in enumerate(trace.groups)
        if group.frozen is None
    }


@torch.no_grad()
def reorder_(trace: NetworkTrace, model: nn.Module, orders: Mapping[int, Tensor]) -> None:
    """Put the channels of groups in new orders, in place; arguments as for `reordered`."""
    for name, tensor in reordered(trace, model, orders).items():
        tensor_at(model, name).copy_(tensor)


@torch.no_grad()
def importance(trace: NetworkTrace, model: nn.Module, group: int) -> Tensor:
    """How much each channel of a group matters to the layers that read it: ``(channels,)``.

    The L1 norm of all weights that multiply the channel, times the mean absolute scale of the
    normalisation layers that it passes through, if any.

    Sources: Cai et al., Once-for-All, 2020, section 3 (L1 norm of the weights); Liu et al., Network
    Slimming, 2017 (batch-norm scales). Deviates: their product, as a scale before a linear layer
    acts like one on its weights.
    """
    norms, scales = [], []
    for name, axes in trace.tensors.items():
        path, _, leaf = name.rpartition(".")
        layer = model.get_submodule(path)
        is_weight = leaf == "weight"
        if (is_weight and isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)) or (
            leaf == "in_proj_weight" and isinstance(layer, nn.MultiheadAttention)
        ):
            norms += [w.sum(1) for w in _of_channels(tensor_at(model, name), 1, axes[1], group)]
        elif is_weight and isinstance(layer, _BatchNorm | nn.LayerNorm | nn.GroupNorm):
            for dim, axis in enumerate(axes):
                scales += [w.mean(1) for w in _of_channels(layer.weight, dim, axis, group)]
    total = torch.stack(norms).sum(0) if norms else torch.zeros(trace.groups[group].full)
    return total * torch.stack(scales).mean(0) if scales else total


def _of_channels(weight: Tensor, dim: int, axis: Axis, group: int) -> list[Tensor]:
    """Absolute weights of each channel, ``(channels, n)``, for each part of ``axis``."""
    first = weight.abs().double().movedim(dim, 0)
    return [
        first[start : start + part.full].reshape(part.full // part.block, -1)
        for start, part in _parts(axis)
        if part.group == group
    ]


def _positions(axis: Axis, orders: Mapping[int, Tensor]) -> Tensor:
    """Where each element of a dimension stood before."""
    pieces = []
    for start, part in _parts(axis):
        old = torch.arange(start, start + part.full)
        if part.group is not None and part.group in orders:
            old = old.view(-1, part.block)[orders[part.group]].flatten()
        pieces.append(old)
    return torch.cat(pieces)


def _parts(axis: Axis) -> Iterator[tuple[int, Part]]:
    start = 0
    for part in axis:
        yield start, part
        start += part.full
