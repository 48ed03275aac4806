"""Autocast, but for convolutions that processors compute slower in bfloat16 than in float32."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode


@contextmanager
def autocast(device: torch.device, precision: torch.dtype) -> Iterator[None]:
    """Compute convolutions and matrix products on ``device`` in ``precision``.

    On CPUs, strided depthwise convolutions stay in float32: oneDNN's gradients of them are far
    slower in bfloat16. It makes a step of `mobilenet_v2` a quarter faster, against float32 0.65
    instead of 0.84 × (``python -m benchmarks.training``).
    """
    if precision == torch.float32:
        yield
        return
    with torch.autocast(device.type, precision):
        if device.type != "cpu":
            yield
            return
        with _StridedDepthwiseInFloat():
            yield


class _StridedDepthwiseInFloat(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and _is_strided_depthwise(*args, **kwargs):
            return _in_float(func, *args, **kwargs)
        return func(*args, **kwargs)


def _is_strided_depthwise(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    strides = {stride} if isinstance(stride, int) else set(stride)
    return weight.shape[1] == 1 and groups > 1 and strides != {1}


def _in_float(function: Callable[..., Tensor], image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    with torch.autocast("cpu", enabled=False):
        return function(image.float(), *args, **kwargs).to(torch.get_autocast_dtype("cpu"))
