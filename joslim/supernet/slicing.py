"""The tensors of a network, and the parts of them that a sub-network uses."""

from functools import lru_cache
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from joslim.tracing import Axis, axis_size
from joslim.widths import Widths


def tensor_at(model: nn.Module, name: str) -> Tensor:
    """The parameter or buffer called ``name``."""
    path, _, leaf = name.rpartition(".")
    return getattr(model.get_submodule(path), leaf)


def take(tensor: Tensor, axes: tuple[Axis, ...], widths: Widths) -> Tensor:
    """The slice of ``tensor`` that a sub-network uses: the first channels of every part.

    A view, unless an axis has several parts (after a concatenation), which must be gathered.
    """
    for dim, (axis, full) in enumerate(zip(axes, tensor.shape, strict=True)):
        size = axis_size(axis, widths)
        if size == full:
            continue
        if len(axis) == 1:
            tensor = tensor.narrow(dim, 0, size)
        else:
            kept = _kept(axis, tuple(part.size(widths) for part in axis))
            tensor = tensor.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    return tensor


@lru_cache(maxsize=256)
def _kept(axis: Axis, sizes: tuple[int, ...]) -> np.ndarray:
    """Positions of the first elements of every part, as many as ``sizes`` says.

    An array, as a tensor would remember whether it was made in inference mode.
    """
    starts = accumulate((part.full for part in axis), initial=0)
    return np.concatenate([np.arange(i, i + n) for i, n in zip(starts, sizes, strict=False)])
