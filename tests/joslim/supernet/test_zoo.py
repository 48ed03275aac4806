"""Torchvision's classifiers: all of them by shapes, a small one of each family by proof."""

import copy
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from small_transformers import TRANSFORMERS
from torch import nn
from torchvision.models import ConvNeXt, DenseNet, RegNet, ShuffleNetV2
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.regnet import BlockParams

import joslim
from benchmarks.networks import counted_macs, without_weights, zoo
from joslim.supernet.channel_order import importance

LEFT_OUT: dict[str, str] = {}
"""Networks of whose MACs less than 97 % can move, and why; docs/results/networks.md says it too."""


@pytest.mark.parametrize("name", zoo())
def test_nearly_all_of_every_classifier_can_move_at_exact_costs(name: str):
    model, image = without_weights(name)
    network = joslim.slimmable(model, image)
    assert (joslim.costs.movable_fraction(network) > 0.97) == (name not in LEFT_OUT)
    widths = network.space.random(torch.Generator().manual_seed(1))
    dense = network.extract(widths)
    assert joslim.costs.macs(network)(widths) == counted_macs(dense, image)
    assert joslim.costs.params(network)(widths) == sum(p.numel() for p in dense.parameters())


def test_the_docs_name_exactly_the_networks_that_are_left_out():
    docs = (Path(__file__).parents[3] / "docs" / "results" / "networks.md").read_text()
    _, _, table = docs.partition("| network | reason |\n|---|---|\n")
    rows = re.findall(r"^\| (.+?) \| .*\|$", table.partition("\n\n")[0], flags=re.MULTILINE)
    assert rows == ([f"`{name}`" for name in LEFT_OUT] or ["none"])


@pytest.mark.parametrize(
    ("name", "width_mult"), [("mobilenet_v2", {"width_mult": 0.5}), ("mnasnet1_0", {"alpha": 0.5})]
)
def test_slices_are_the_narrow_networks_that_torchvision_builds(
    name: str, width_mult: dict[str, float]
):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 64, 64)
    network = joslim.slimmable(joslim.networks.create(f"torchvision:{name}", 10), x).eval()
    narrow = type(network.model)(num_classes=10, **width_mult).eval()
    widths = tuple(narrow.get_submodule(g.name).out_channels for g in network.space.groups)
    narrow.load_state_dict(network.extract(widths).state_dict())
    torch.testing.assert_close(network(x, widths), narrow(x))


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    name: partial(joslim.networks.create, f"torchvision:{name}", 10)
    for name in (
        "resnet18", "mobilenet_v2", "mobilenet_v3_small", "mnasnet0_5", "efficientnet_b0",
        "squeezenet1_1", "googlenet", "shufflenet_v2_x0_5",
    )
} | {
    "resnext": lambda: joslim.networks.create("torchvision:resnext50_32x4d", 10),
    "regnet": lambda: RegNet(BlockParams([1, 2], [32, 48], [8, 16], [1.0, 1.0], [2, 2], 0.25), 10),
    "shufflenet": lambda: ShuffleNetV2([2, 4, 2], [8, 48, 96, 192, 64], 10),
    "densenet": lambda: DenseNet(8, (2, 3, 2, 2), 16, num_classes=10),
    "convnext": lambda: ConvNeXt([CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)]),
    **TRANSFORMERS,
}  # fmt: skip


@pytest.fixture(scope="module", params=FAMILIES)
def network(request: pytest.FixtureRequest) -> joslim.SlimmableNetwork:
    torch.manual_seed(0)
    model = FAMILIES[request.param]()
    return joslim.slimmable(model, torch.randn(2, 3, 64, 64), min_width=0.25).eval()


def test_slices_orders_and_gradients_are_right(network: joslim.SlimmableNetwork):
    network.verify()


def test_a_densenet_that_computes_activations_again_is_right():
    torch.manual_seed(0)
    model = DenseNet(8, (2, 2, 2, 2), 16, num_classes=10, memory_efficient=True)
    joslim.slimmable(model, torch.randn(2, 3, 64, 64), min_width=0.25).verify()


def test_sorting_channels_changes_no_output(network: joslim.SlimmableNetwork):
    sorted_network = copy.deepcopy(network).double()
    for tensor in [*sorted_network.parameters(), *sorted_network.buffers()]:
        if tensor.is_floating_point():
            tensor.data += 0.05 * torch.rand_like(tensor)
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    before = sorted_network(x)
    sorted_network.sort_channels_()
    torch.testing.assert_close(sorted_network(x), before, rtol=1e-8, atol=1e-10)
    state = copy.deepcopy(sorted_network.state_dict())
    for index, group in enumerate(network.space.groups):
        if group.frozen is None:
            found = importance(sorted_network.trace, sorted_network.model, index)
            assert (found.diff() <= 1e-9 * found.max()).all(), group.name
    sorted_network.sort_channels_()
    for name, tensor in sorted_network.state_dict().items():
        assert torch.equal(tensor, state[name]), name
