"""timm's networks by name: errors, weights, and what moves; they are skipped without timm."""

import socket
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import joslim
from benchmarks.networks import TIMM, counted_macs, without_weights
from joslim.errors import NetworkError
from joslim.training import sandwich_step


def test_without_timm_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        NetworkError, match=r"'timm:resnet18' needs timm; install it: pip install timm"
    ):
        joslim.networks.create("timm:resnet18", 10)


@pytest.fixture(autouse=True)
def _offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """timm, and no connection to anywhere."""
    if request.function is test_without_timm_the_error_says_how_to_install_it:
        return
    pytest.importorskip("timm")

    def refuse(*args: object) -> None:
        raise AssertionError(f"connects to {args[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("resnet19", None, r"timm has no network 'resnet19'; the closest are resnet18, "),
        ("hf-hub:a/b", None, r"network is 'timm:hf-hub:a/b'; expected a name of timm's own"),
        ("resnet18", "V1", r"no weights 'V1' for 'resnet18'; it has a1_in1k, .*give a file"),
        ("resnet18", "nothing.pth", r"weights 'nothing\.pth' cannot be read"),
    ],
)
def test_unknown_names_are_refused(name: str, weights: str | None, message: str):
    with pytest.raises(NetworkError, match=message):
        joslim.networks.create(f"timm:{name}", 10, weights=weights)


def test_weights_of_a_file_are_loaded_but_for_the_output_layer(tmp_path: Path):
    name, file = "timm:lcnet_050", str(tmp_path / "weights.safetensors")
    expected = joslim.networks.create(name, 1000).state_dict()
    save_file(expected, file)
    for layer, tensor in joslim.networks.create(name, 10, weights=file).state_dict().items():
        assert torch.equal(tensor, expected[layer]) != layer.startswith("classifier"), layer
    with pytest.raises(NetworkError, match=r"do not fit 'lcnet_050': conv_stem\.weight, "):
        joslim.networks.create(name, 1000, in_channels=1, weights=file)


MOVE = (
    "convnextv2_atto", "cs3darknet_s", "efficientnet_b0", "fasternet_t0", "ghostnet_050",
    "hgnetv2_b0", "mixnet_s", "mobilenetv4_conv_small", "nf_regnet_b0", "poolformer_s12",
    "regnety_002", "repvgg_a0", "res2net50_14w_8s", "resnetv2_50x1_bit", "skresnet18",
    "swin_tiny_patch4_window7_224", "tf_efficientnetv2_b0", "vit_tiny_patch16_224",
)  # fmt: skip


@pytest.mark.parametrize("name", MOVE)
def test_more_than_half_can_move_at_exact_costs(name: str):
    assert name in TIMM
    model, image = without_weights(name, "timm")
    network = joslim.slimmable(model, image).eval()
    assert joslim.costs.movable_fraction(network) > 0.5
    widths = network.space.random(torch.Generator().manual_seed(1))
    dense = network.extract(widths)
    assert joslim.costs.macs(network)(widths) == counted_macs(dense, image)
    assert joslim.costs.params(network)(widths) == sum(p.numel() for p in dense.parameters())


@pytest.mark.parametrize(
    "name", ["tinynet_e", "lcnet_050", "convnextv2_atto", "mixnet_s", "ghostnet_050", "regnety_002"]
)
def test_slices_orders_and_gradients_are_right(name: str):
    torch.manual_seed(0)
    model = joslim.networks.create(f"timm:{name}", 10, in_channels=1)
    joslim.slimmable(model, torch.randn(2, 1, 64, 64), min_width=0.25).eval().verify()


def test_checkpointing_that_is_switched_on_later_changes_no_gradient():
    torch.manual_seed(0)
    timm = pytest.importorskip("timm")
    model = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, num_classes=5
    )
    network = joslim.slimmable(model, torch.zeros(2, 3, 32, 32), min_width=0.25).train()
    images, labels = torch.randn(4, 3, 32, 32), torch.randint(0, 5, (4,))
    gradients = []
    for switch in (False, True):
        network.model.set_grad_checkpointing(switch)
        network.zero_grad()
        sandwich_step(network, images, labels, [network.space.smallest])
        gradients.append({name: p.grad for name, p in network.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)
