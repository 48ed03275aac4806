import pytest
import torch
from torch import Tensor, nn

from joslim.machine.mixed_precision import autocast, suited_to_autocast

CPU = torch.device("cpu")


def convolution(groups: int, stride: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(8, 8, 3, stride, padding=1, groups=groups))


def images() -> Tensor:
    return torch.randn(2, 8, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("groups", "stride", "is_exact"), [(8, 2, True), (8, 1, False), (1, 2, False)]
)
def test_strided_depthwise_convolutions_stay_in_float32(
    groups: int, stride: int, is_exact: bool
) -> None:
    model = convolution(groups, stride)
    suited = suited_to_autocast(model, CPU, torch.bfloat16)
    assert (suited is not model) == is_exact
    expected = model(images())
    with autocast(CPU, torch.bfloat16):
        found = suited(images())
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected.bfloat16()) == is_exact
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.1)
    found.float().square().sum().backward()
    (parameter, *_) = model.parameters()
    assert parameter.grad is not None
    assert parameter.grad.dtype == torch.float32


def test_float32_is_left_alone() -> None:
    model = convolution(8, 2)
    assert suited_to_autocast(model, CPU, torch.float32) is model
    with autocast(CPU, torch.float32):
        assert torch.equal(model(images()), model(images()))
    suited = suited_to_autocast(model, CPU, torch.bfloat16)
    assert torch.equal(suited(images()), model(images()))
