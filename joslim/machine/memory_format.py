"""The memory layout in which convolutions run fastest and rightly."""

import torch
from torch import nn

_ONEDNN_BLOCK = 8


def fast_memory_format(model: nn.Module) -> torch.memory_format:
    """The memory layout to train in: channels last, unless that would compute wrongly.

    On CPUs without AVX-512 the weight gradient of a strided 1 × 1 convolution with fewer than 8
    input channels is wrong, or crashes, in that layout (oneDNN issue 6035).

    Args:
        model: A dense network; of a supernet, its smallest sub-network.
    """
    for module in model.modules():
        if (
            isinstance(module, nn.Conv2d)
            and module.in_channels < _ONEDNN_BLOCK
            and set(module.kernel_size) == {1}
            and set(module.stride) != {1}
        ):
            return torch.contiguous_format
    return torch.channels_last
