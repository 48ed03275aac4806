"""Pretrained weights: those of a file fit but for the output layer; what does not is named."""

from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

import joslim
from joslim.errors import NetworkError

NAME = "mobilenet_v3_small"


@pytest.fixture(scope="module")
def pretrained() -> nn.Module:
    torch.manual_seed(0)
    return torchvision.models.get_model(NAME, weights=None)


@pytest.fixture(scope="module", params=["weights.safetensors", "weights.pth"])
def file(
    request: pytest.FixtureRequest, pretrained: nn.Module, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("weights") / request.param
    (save_file if path.suffix == ".safetensors" else torch.save)(pretrained.state_dict(), path)
    return path


def test_weights_of_a_file_are_loaded_but_for_the_output_layer(pretrained: nn.Module, file: Path):
    model = joslim.networks.create(f"torchvision:{NAME}", 10, weights=str(file))
    expected = pretrained.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]) != name.startswith("classifier.3"), name
    full = joslim.networks.create(f"torchvision:{NAME}", 1000, weights=str(file))
    assert torch.equal(full.classifier[3].weight, pretrained.classifier[3].weight)


def test_any_network_starts_from_a_file(tmp_path: Path):
    trained = joslim.networks.create("resnet8", 10)
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    model = joslim.networks.create("resnet8", 3, weights=str(tmp_path / "weights.pt"))
    assert torch.equal(model.stage1[0].conv1.weight, trained.stage1[0].conv1.weight)
    assert model.head.out_features == 3


def test_weights_of_another_network_are_refused(file: Path):
    with pytest.raises(NetworkError, match=r"do not fit 'resnet18': conv1\.weight, .* are missing"):
        joslim.networks.create("torchvision:resnet18", 10, weights=str(file))


def test_errors_name_the_weights(tmp_path: Path):
    with pytest.raises(NetworkError, match=r"no weights 'V9' for 'resnet18'; it has IMAGENET1K_V1"):
        joslim.networks.create("torchvision:resnet18", 10, weights="V9")
    with pytest.raises(NetworkError, match=r"weights is 'V1', but 'resnet20' has none by name"):
        joslim.networks.create("resnet20", 10, weights="V1")
    with pytest.raises(NetworkError, match=r"weights '.*nothing\.pth' cannot be read"):
        joslim.networks.create("torchvision:resnet18", 10, weights=str(tmp_path / "nothing.pth"))
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no tensors")
    with pytest.raises(NetworkError, match=r"damaged\.safetensors' cannot be read"):
        joslim.networks.create("torchvision:resnet18", 10, weights=str(damaged))
