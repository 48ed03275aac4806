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
    with pytest.raises(NetworkError, match=r"weights '.*' is a list; expected tensors by name"):
        start_from([1], tmp_path)
    with pytest.raises(NetworkError, match=r"'model' is a dict; expected tensors by name, as of a"):
        start_from({"model": {}}, tmp_path)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(b"no tensors")
    with pytest.raises(NetworkError, match=r"damaged\.safetensors' cannot be read"):
        joslim.networks.create("torchvision:resnet18", 10, weights=str(damaged))


def start_from(content: object, folder: Path) -> nn.Module:
    torch.save(content, folder / "odd.pt")
    return joslim.networks.create("resnet8", 10, weights=str(folder / "odd.pt"))


@pytest.mark.parametrize("content", [b"", b"PK", b"\x80\x02.", b"\x80\x02}q\x00."])
def test_a_file_that_holds_no_weights_is_named(content: bytes, tmp_path: Path):
    file = tmp_path / "odd.pt"
    file.write_bytes(content)
    with pytest.raises(NetworkError, match=r"weights '.*odd\.pt'"):
        joslim.networks.create("resnet8", 10, weights=str(file))


def test_a_file_that_is_cut_short_is_named(tmp_path: Path):
    start_from(joslim.networks.create("resnet8", 10).state_dict(), tmp_path)
    whole = (tmp_path / "odd.pt").read_bytes()
    (tmp_path / "odd.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NetworkError, match=r"weights '.*odd\.pt' cannot be read: .*"):
        joslim.networks.create("resnet8", 10, weights=str(tmp_path / "odd.pt"))


def test_numbers_that_are_none_or_would_be_others_are_refused(tmp_path: Path):
    state = joslim.networks.create("resnet8", 10).state_dict()
    half = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    model = start_from(half, tmp_path)
    assert torch.equal(model.conv.weight, half["conv.weight"].float())
    for changed, message in (
        (state["conv.weight"] * torch.nan, "'conv.weight' holds numbers that are not finite"),
        (state["conv.weight"].int(), r"'conv.weight' is of torch.int32; expected torch.float32"),
    ):
        with pytest.raises(NetworkError, match=message):
            start_from({**state, "conv.weight": changed}, tmp_path)
