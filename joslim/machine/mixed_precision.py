"""Autocast, but for convolutions that processors compute slower in bfloat16 than in float32."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from joslim.twins import twin


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[object]:
    """Compute convolutions and matrix products on ``device`` in ``precision``."""
    if precision == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, precision)


def suited_to_autocast(
    network: nn.Module, device: torch.device, precision: torch.dtype
) -> nn.Module:
    """A twin of ``network`` whose convolutions are fast in ``precision``.

    It shares all parameters and buffers with ``network``, and is ``network`` itself where nothing
    is replaced. On CPUs, oneDNN's gradients of strided depthwise convolutions are far slower in
    bfloat16 than in float32. That they stay in float32 takes a quarter off the step of
    `mobilenet_v2` (``python -m benchmarks.training``). Convolutions that a network calls as
    functions, or with code of its own, are not looked at.
    """
    if device.type != "cpu" or precision == torch.float32:
        return network
    return twin(network, lambda module: Float32Conv2d if _is_strided_depthwise(module) else None)


class Float32Conv2d(nn.Conv2d):
    """A convolution that computes in float32 inside of `torch.autocast`, too."""

    def forward(self, x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            y = super().forward(x.float())
        return y.to(torch.get_autocast_dtype(x.device.type))


def _is_strided_depthwise(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and type(module).forward is nn.Conv2d.forward
        and type(module)._conv_forward is nn.Conv2d._conv_forward
        and module.groups > 1
        and module.weight.shape[1] == 1
        and set(module.stride) != {1}
    )
