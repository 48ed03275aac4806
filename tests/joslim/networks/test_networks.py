"""Networks by name, and own ones."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_training import spec
from torch import nn

import joslim
from joslim.errors import NetworkError, TracingError
from joslim.supernet.storage import load_spec, save_supernet


def tiny_factory(num_classes: int, in_channels: int) -> nn.Module:
    """A user's own network, named as test_networks:tiny_factory."""
    return nn.Sequential(nn.Conv2d(in_channels, 8, 3), nn.Flatten(), nn.LazyLinear(num_classes))


def failing_factory(num_classes: int, in_channels: int) -> nn.Module:
    raise KeyError("boom")


def number_factory(num_classes: int, in_channels: int) -> int:
    return 3


def seven_factory(num_classes: int, in_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), Gate()
    )


class Gate(nn.Module):
    """Which way it goes depends on the image, so that it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x) if x.sum() > 0 else -self.head(x)


def test_a_spec_with_leaves_and_its_number_of_outputs(tmp_path: Path):
    mine = "test_networks:seven_factory"
    with pytest.raises(TracingError, match=r"or 'test_networks:Gate' where leaves go by"):
        replace(spec(), network=mine, num_classes=7).build(allow=("test_networks",))
    followed = replace(spec(), network=mine, num_classes=7, leaves=("test_networks:Gate",))
    with pytest.raises(TracingError, match="no channel group can change its width"):
        followed.build(allow=("test_networks",))
    with pytest.raises(NetworkError, match=r"'test_networks:spec' is .*; expected a class of"):
        replace(spec(), leaves=("test_networks:spec",)).build(allow=("test_networks",))
    ten = replace(spec(), network="test_networks:two_convolutions", num_classes=10)
    with pytest.raises(NetworkError, match=r"gives \(2, 7\) for 2 images; expected \(2, 10\)"):
        ten.build(allow=("test_networks",))
    save_supernet(tmp_path, replace(ten, num_classes=7).build(allow=("test_networks",)), followed)
    assert load_spec(tmp_path) == followed


def two_convolutions(num_classes: int, in_channels: int) -> nn.Module:
    convolutions = nn.Conv2d(in_channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 7, 3)
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test_networks:failing_factory", r"in_channels=1\) fails with KeyError: 'boom'"),
        ("test_networks:number_factory", r"in_channels=1\) gives 3; expected an nn.Module"),
        ("resnet9", r"network is 'resnet9'; expected one of resnet8, resnet14"),
        ("resnet8-third", r"network is 'resnet8-third'; expected one of"),
        ("torchvision:resnet19", r"torchvision has no network 'resnet19'; the closest are resnet1"),
        ("nowhere:net", r"'nowhere:net' cannot be imported: .*; expected package.module:name"),
        ("torchvision:resnet18", r"in_channels is 1; expected 3, as torchvision:resnet18 takes"),
    ],
)
def test_unknown_networks_are_refused(name: str, message: str):
    with pytest.raises(NetworkError, match=message):
        joslim.networks.create(name, 10, in_channels=1)


def test_a_factory_is_called_by_name():
    model = joslim.networks.create("test_networks:tiny_factory", 7, in_channels=2)
    assert model(torch.zeros(1, 2, 5, 5)).shape == (1, 7)
