"""A slimmable network on disk, with random weights."""

import json
from pathlib import Path
from typing import Any

import torch
from small_training import spec
from torch import Tensor, nn

import joslim
from joslim import costs
from joslim.supernet import Configuration, NetworkSpec, SlimmableModel, save_slimmable
from joslim.supernet.batch_norm import recalibrate_batchnorm
from joslim.supernet.private import private_parameters, statistics
from joslim.supernet.saved_spec import DIGEST, signed

NETWORKS = {
    "resnet20": 32, "torchvision:mobilenet_v2": 64, "torchvision:densenet121": 32,
    "timm:test_convnext": 64, "small_transformers:vit": 64,
}  # fmt: skip

ALLOW = ("small_transformers",)


def colour_spec(name: str) -> NetworkSpec:
    size = NETWORKS[name]
    return spec(network=name, in_channels=3, image_size=size, mean=(0.5,) * 3, std=(0.2,) * 3)


def save(path: Path, of: NetworkSpec, num_widths: int = 3) -> dict[str, nn.Module]:
    """A slimmable network with random weights; its extracted networks by id."""
    torch.manual_seed(0)
    network = of.build(allow=ALLOW).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        if not parameter.any():  # as the heads of ViTs, which would hide all differences
            nn.init.normal_(parameter, std=0.1, generator=generator)
    shape = (4, of.in_channels, of.image_size, of.image_size)
    batches = [torch.rand(shape, generator=generator) for _ in range(2)]
    widths_list = [network.space.smallest, network.space.full]
    while len(set(widths_list)) < num_widths:
        widths_list.append(network.space.random(generator))
    kept, dense = [], {}
    sizes = {
        {"memory": "memory_bytes"}.get(name, name): cost(network)
        for name, cost in costs.COSTS.items()
    }
    for i, widths in enumerate(dict.fromkeys(widths_list)):
        model = network.extract(widths)
        recalibrate_batchnorm([model], batches)
        fraction = sizes["macs"].fraction(widths)
        numbers = {name: float(cost(widths)) for name, cost in sizes.items()}
        numbers["val_top1"] = 0.5 + fraction / 4
        kept.append((Configuration(f"w-{i}", widths, numbers), model))
        dense[f"w-{i}"] = model.eval()
    full = {name: float(cost.full) for name, cost in sizes.items()}
    save_slimmable(path, network, of, kept, full)
    return dense


def load(path: Path) -> SlimmableModel:
    model = joslim.load(path, allow=ALLOW)
    assert isinstance(model, SlimmableModel)
    return model


def images(of: NetworkSpec) -> Tensor:
    shape = (2, of.in_channels, of.image_size, of.image_size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


def with_budget(model: SlimmableModel) -> SlimmableModel:
    """The network with a configuration ``tiny`` that has norms and a classifier of its own."""
    smallest = model.configurations[0]
    dense = model.extract(smallest.id)
    image = torch.zeros(2, *model.input_shape)
    parameters = private_parameters(dense, "norms-and-classifier", image)
    with torch.no_grad():
        for name in parameters:
            dense.get_parameter(name).mul_(1.5)
    state = dense.state_dict()
    private = {name: state[name] for name in [*statistics(dense), *parameters]}
    numbers = {**smallest.numbers, "val_top1": 0.99}
    return model.extended([(Configuration("tiny", smallest.widths, numbers), private)])


def change(file: Path, **changes: Any) -> None:
    """Change keys of a JSON file, and its digest with them, as if it had been written so."""
    content = {**json.loads(file.read_text()), **changes}
    content.pop(DIGEST, None)
    file.write_text(json.dumps(signed(content)))
