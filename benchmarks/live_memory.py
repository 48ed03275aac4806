"""Peak memory of a forward pass as it happens: the storages that are alive after each operation."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Follows every storage from the operation that makes it until Python lets go of it.

    Scratch space that a kernel frees before it returns is not seen.

    Attributes:
        peak: Largest number of bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, int] = {}

    def note(self, tensors: Iterable[Tensor]) -> None:
        """Count these from now on."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            key = storage._cdata
            if key not in self._alive:
                self._alive[key] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, key)
        self.peak = max(self.peak, sum(self._alive.values()))

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.note(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result


@torch.no_grad()
def peak_bytes(model: nn.Module, image: Tensor) -> int:
    """Weights, buffers and the activations alive at once, as ``model`` runs on ``image``."""
    with LiveMemory() as live:
        live.note([*model.parameters(), *model.buffers(), image])
        model(image)
    return live.peak
