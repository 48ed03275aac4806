"""A device beside the CPU on machines without a GPU: it computes on the CPU, but keeps apart.

An operation on tensors of both devices is an error, as it is on a real one. Importing this module
makes it the `joslim.machine.device.training_device`, so it is for processes of their own.
"""

from collections import Counter
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

import joslim.machine.device

aten = torch.ops.aten


class _Module(_DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


_setup_privateuseone_for_python_backend("pretended", _Module())
DEVICE = torch.device("pretended", 0)
joslim.machine.device.training_device = lambda: DEVICE

computed: Counter[str] = Counter()
"""How often each operation ran on the device."""

_contents: dict[int, Tensor] = {}
"""What the device's tensors hold, on the CPU, by the addresses of their empty storages.

Always contiguous from the start of a storage, as those tensors are; so only such views are views.
"""


def _on_device(content: Tensor) -> Tensor:
    tensor = torch._C._acc.create_empty_tensor(content.shape, content.dtype)
    is_plain = content.is_contiguous() and content.storage_offset() == 0
    plain = content if is_plain else content.clone(memory_format=torch.contiguous_format)
    _contents[tensor.untyped_storage()._cdata] = plain
    return tensor


def _content(value: Any) -> Any:
    if isinstance(value, Tensor) and value.device == DEVICE:
        return _contents[value.untyped_storage()._cdata]
    return torch.device("cpu") if value == DEVICE else value


def _run(operation: Any, *args: Any, **kwargs: Any) -> Any:
    computed[str(operation)] += 1
    given = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    if any(value.device != DEVICE and value.dim() > 0 for value in given):
        raise RuntimeError(f"{operation} of tensors on both devices")
    result = operation(*tree_map(_content, args), **tree_map(_content, kwargs))
    owners = {id(_content(value)): value for value in given}

    def owned(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return owners[id(value)] if id(value) in owners else _on_device(value)

    return tree_map(owned, result)


def _convolution_backward(grad: Tensor, x: Tensor, weight: Tensor, *options: Any) -> Any:
    return _run(aten.convolution_backward.default, grad, x, weight, [grad.shape[1]], *options)


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _content(target).copy_(_content(source))
    return target


_operations = torch.library.Library("_", "IMPL")
_operations.fallback(_run, "PrivateUse1")
_special = torch.library.Library("aten", "IMPL")
_special.impl("_copy_from", _copy, "PrivateUse1")
_special.impl("slice_backward", partial(_run, aten.slice_backward.default), "PrivateUse1")
_special.impl("convolution_overrideable", partial(_run, aten.convolution.default), "PrivateUse1")
_special.impl("convolution_backward_overrideable", _convolution_backward, "PrivateUse1")
