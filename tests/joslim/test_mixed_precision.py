import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from joslim.mixed_precision import autocast

CPU = torch.device("cpu")


def convolved(images: Tensor, groups: int, stride: int) -> tuple[Tensor, Tensor]:
    """Outputs and the weight's gradient."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(8, 8 // groups, 3, 3, generator=generator).requires_grad_()
    outputs = F.conv2d(images, weight, None, stride, 1, 1, groups)
    outputs.float().square().sum().backward()
    assert weight.grad is not None
    return outputs, weight.grad


@pytest.mark.parametrize(
    ("groups", "stride", "is_exact"), [(8, 2, True), (8, 1, False), (1, 2, False)]
)
def test_strided_depthwise_convolutions_stay_in_float32(
    groups: int, stride: int, is_exact: bool
) -> None:
    images = torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(1))
    outputs, _ = convolved(images, groups, stride)
    with autocast(CPU, torch.bfloat16):
        found, gradient = convolved(images, groups, stride)
    assert found.dtype == torch.bfloat16
    assert gradient.dtype == torch.float32
    assert torch.equal(found, outputs.bfloat16()) == is_exact
    torch.testing.assert_close(found.float(), outputs, rtol=0.02, atol=0.1)


def test_float32_is_left_alone() -> None:
    images = torch.randn(2, 8, 9, 9)
    outputs, gradient = convolved(images, 8, 2)
    with autocast(CPU, torch.float32):
        found, found_gradient = convolved(images, 8, 2)
    assert torch.equal(found, outputs)
    assert torch.equal(found_gradient, gradient)
