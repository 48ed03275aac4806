"""Channel groups against an independent oracle: the dependency graph of torch-pruning.

It finds dependencies by another way, the graph of gradients, and takes channels out of a copy of
the network, where ours takes slices of it.
"""

import copy
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise

import pytest
import torch
import torch_pruning
from torch import Tensor, nn
from torchvision.models import ConvNeXt, DenseNet, RegNet, ResNet, ShuffleNetV2, VisionTransformer
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.regnet import BlockParams
from torchvision.models.resnet import Bottleneck
from torchvision.models.vgg import make_layers

import joslim

Partition = set[frozenset[str]]

LAYERS = (nn.Conv2d, nn.Linear)


def _torchvision(name: str) -> Callable[[], nn.Module]:
    return partial(joslim.networks.create, f"torchvision:{name}", 10)


ALIKE: dict[str, Callable[[], nn.Module]] = {
    **{f"resnet{n}": partial(joslim.networks.create, f"resnet{n}", 10) for n in (20, 32, 44, 56)},
    **{
        name: _torchvision(name)
        for name in (
            "alexnet", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small",
            "mobilenet_v3_large", "mnasnet0_5", "efficientnet_b0", "squeezenet1_1", "googlenet",
        )
    },
    "densenet": lambda: DenseNet(8, (2, 3, 2, 2), 16, num_classes=10),
    "vgg": lambda: nn.Sequential(
        make_layers([8, "M", 16, 16, "M"], batch_norm=True), nn.AdaptiveAvgPool2d(7),
        nn.Flatten(), nn.Linear(16 * 49, 32), nn.ReLU(), nn.Linear(32, 10),
    ),
    "convnext": lambda: ConvNeXt([CNBlockConfig(16, 32, 2), CNBlockConfig(32, None, 2)]),
}  # fmt: skip
"""Networks on which both find the same groups."""

GROUPED: dict[str, Callable[[], nn.Module]] = {
    "resnext": lambda: ResNet(Bottleneck, [1, 1, 1, 1], 10, groups=32, width_per_group=4),
    "regnet_x": lambda: RegNet(BlockParams([1, 2], [32, 48], [8, 16], [1.0, 1.0], [2, 2]), 10),
    "regnet_y": lambda: RegNet(
        BlockParams([1, 2], [32, 48], [8, 16], [1.0, 1.0], [2, 2], 0.25), 10
    ),
}
"""Networks with grouped convolutions. There torch-pruning keeps the number of groups and takes as
many channels out of each, so inputs and outputs are free of each other; we keep or drop whole
groups, so that the kept channels are the first ones, which ties inputs and outputs."""


REFUSED: dict[str, Callable[[], nn.Module]] = {
    "shufflenet": lambda: ShuffleNetV2([2, 4, 2], [8, 48, 96, 192, 64], 10),
}
"""Networks that torch-pruning gives up on: it divides by zero at the chunks of ShuffleNet."""


def _example() -> Tensor:
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def _build(factory: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    model = factory().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


def _graph(model: nn.Module) -> torch_pruning.DependencyGraph:
    return torch_pruning.DependencyGraph().build_dependency(
        model,
        _example(),
        unwrapped_parameters=[
            (parameter, 0) for name, parameter in model.named_parameters() if "layer_scale" in name
        ],
        verbose=False,
    )


def _oracle(model: nn.Module) -> Partition:
    """Convolutions and linear layers that must lose the same outputs; the last is the interface."""
    graph = _graph(model)
    names = {module: name for name, module in model.named_modules()}
    output = [name for name, module in model.named_modules() if isinstance(module, LAYERS)][-1]
    found = {
        frozenset(
            names[item.dep.target.module]
            for item in group
            if isinstance(item.dep.target.module, LAYERS)
            and graph.is_out_channel_pruning_fn(item.dep.handler)
        )
        for group in graph.get_all_groups(root_module_types=list(LAYERS))
    }
    return {group for group in found if output not in group}


def _ours(network: joslim.SlimmableNetwork) -> Partition:
    layers = {name for name, m in network.model.named_modules() if isinstance(m, LAYERS)}
    return {frozenset(layers.intersection(group.members)) for group in network.space.groups}


def _around_grouped_convolutions(model: nn.Module) -> Iterable[frozenset[str]]:
    """Each grouped convolution together with the one before it."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    for before, name in pairwise(layers):
        if model.get_submodule(name).groups > 1:
            yield frozenset((before, name))


def _merged(partition: Iterable[frozenset[str]], ties: Iterable[frozenset[str]]) -> Partition:
    merged = set(partition)
    for tie in ties:
        touched = {group for group in merged if group & tie}
        merged = (merged - touched) | {frozenset().union(*touched)}
    return merged


@pytest.fixture(scope="module", params=ALIKE)
def network(request: pytest.FixtureRequest) -> joslim.SlimmableNetwork:
    return joslim.slimmable(_build(ALIKE[request.param]), _example()).eval()


def test_groups_are_those_of_the_oracle(network: joslim.SlimmableNetwork):
    assert _ours(network) == _oracle(network.model)


def test_taking_out_the_same_channels_gives_the_same_outputs(network: joslim.SlimmableNetwork):
    widths = network.space.random(torch.Generator().manual_seed(1))
    model = copy.deepcopy(network.model)
    graph = _graph(model)
    for group, width in zip(network.space.groups, widths, strict=True):
        layer = model.get_submodule(group.name)
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        if width < group.full:
            graph.get_pruning_group(layer, prune, list(range(width, group.full))).prune()
    torch.testing.assert_close(network(_example(), widths), model(_example()))


@pytest.mark.parametrize("name", GROUPED)
def test_grouped_convolutions_tie_what_the_oracle_leaves_free(name: str):
    model = _build(GROUPED[name])
    network = joslim.slimmable(model, _example())
    free = _oracle(model)
    assert _ours(network) != free
    assert _ours(network) == _merged(free, _around_grouped_convolutions(model))


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_oracle_refuses_still_moves(name: str):
    model = _build(REFUSED[name])
    with pytest.raises(ZeroDivisionError):
        _oracle(model)
    assert joslim.costs.movable_fraction(joslim.slimmable(model, _example())) > 0.5


def test_heads_are_groups_of_their_own_which_the_oracle_does_not_know():
    """Attention is one layer to it, and would be cut inside of heads."""
    model = _build(lambda: VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=10))
    network = joslim.slimmable(model, _example())
    heads = [group for group in network.space.groups if group.name.endswith("in_proj_weight")]
    assert [(group.full, group.members) for group in heads] == [(2, (g.name,)) for g in heads]
    inside = {group.name.replace("in_proj_weight", "out_proj") for group in heads}
    ours = {group - inside for group in _ours(network) if group}
    assert len(heads) == 2
    assert ours == _oracle(model)
