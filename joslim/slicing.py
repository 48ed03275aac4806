"""The tensors of a network, and the parts of them that a sub-network uses."""

import torch
from torch import Tensor, nn

from joslim.tracing import Axis, axis_size
from joslim.widths import Widths


def tensor_at(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of that name."""
    path, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(path), leaf)


def take(tensor: Tensor, axes: tuple[Axis, ...], widths: Widths) -> Tensor:
    """The slice of ``tensor`` that a sub-network uses: the first channels of every part.

    A view, unless an axis has several parts (after a concatenation), which must be joined.
    """
    for dim, axis in enumerate(axes):
        if axis_size(axis, widths) == tensor.shape[dim]:
            continue
        pieces, start = [], 0
        for part in axis:
            pieces.append(tensor.narrow(dim, start, part.size(widths)))
            start += part.full
        tensor = pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)
    return tensor
