"""One stored network at all widths: the same outputs as extracted ones, and no weight twice."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small_training import spec
from torch import Tensor, nn

import joslim
from joslim import costs
from joslim.errors import BudgetError, CheckpointError, WidthError
from joslim.supernet import Configuration, NetworkSpec, SlimmableModel, save_slimmable
from joslim.supernet.batch_norm import recalibrate_batchnorm

NETWORKS = {
    "resnet20": 32, "torchvision:mobilenet_v2": 64, "torchvision:densenet121": 32,
    "timm:test_convnext": 64, "small_transformers:vit": 64,
}  # fmt: skip


def colour_spec(name: str) -> NetworkSpec:
    size = NETWORKS[name]
    return spec(network=name, in_channels=3, image_size=size, mean=(0.5,) * 3, std=(0.2,) * 3)


def save(path: Path, of: NetworkSpec, num_widths: int = 3) -> dict[str, nn.Module]:
    """A slimmable network with random weights; its extracted networks by id."""
    torch.manual_seed(0)
    network = of.build().eval()
    generator = torch.Generator().manual_seed(1)
    shape = (4, of.in_channels, of.image_size, of.image_size)
    batches = [torch.rand(shape, generator=generator) for _ in range(2)]
    widths_list = [network.space.smallest, network.space.full]
    while len(set(widths_list)) < num_widths:
        widths_list.append(network.space.random(generator))
    kept, dense = [], {}
    sizes = {name: cost(network) for name, cost in costs.COSTS.items()}
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
    model = joslim.load(path)
    assert isinstance(model, SlimmableModel)
    return model


def images(of: NetworkSpec) -> Tensor:
    shape = (2, of.in_channels, of.image_size, of.image_size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_configuration_gives_what_its_extracted_network_gives(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = colour_spec(name)
    dense = save(tmp_path, of)
    monkeypatch.setattr("joslim.tracing.trace", None)
    model = load(tmp_path)
    with torch.inference_mode():
        for identity, extracted in dense.items():
            assert torch.equal(model.at(identity)(images(of)), extracted(images(of))), identity
    described = {path: str(module) for path, module in dense["w-0"].named_modules()}
    assert {path: str(module) for path, module in model.at("w-0").named_modules()} == described


def test_parameters_are_views_of_the_shared_ones(tmp_path: Path) -> None:
    save(tmp_path, spec())
    model = load(tmp_path)
    shared = {p.untyped_storage().data_ptr() for p in model.at("w-1").parameters()}
    narrow = list(model.at("w-0").parameters())
    assert {p.untyped_storage().data_ptr() for p in narrow} == shared
    assert not any(p.requires_grad for p in narrow)
    assert not model.at("w-0").training
    assert sum(p.numel() for p in narrow) < sum(p.numel() for p in model.at("w-1").parameters())


def test_what_is_asked_for_again_is_the_same_module(tmp_path: Path) -> None:
    save(tmp_path, spec())
    model = load(tmp_path)
    smallest = model.configurations[0]
    assert model.at("w-0") is model.at(smallest.widths) is model.at("w-0")
    assert model.at("macs=100%") is model.at("w-1")
    with pytest.raises(WidthError, match=r"no configuration is 'w-9'; expected a budget such as"):
        model.at("w-9")
    with pytest.raises(WidthError, match=r"no configuration is \(1, 1\); expected"):
        model.at((1, 1))


def test_a_budget_gets_the_best_within_it_or_hears_of_the_cheapest(tmp_path: Path) -> None:
    save(tmp_path, spec())
    model = load(tmp_path)
    cheap, *_, best = model.configurations
    assert [c.numbers["macs"] for c in model.configurations] == sorted(
        c.numbers["macs"] for c in model.configurations
    )
    assert model.configuration("macs=100%") == best
    assert model.configuration(f"macs={cheap.numbers['macs']:.0f}") == cheap
    assert model.configuration("params=99.9%").numbers["params"] < best.numbers["params"]
    with pytest.raises(BudgetError) as refused:
        model.at("macs=1k")
    assert str(refused.value).startswith(
        "no configuration has macs <= 1k; the cheapest in macs is "
    )
    with pytest.raises(BudgetError, match="the full network's latency is not known"):
        model.at("latency=50%")
    with pytest.raises(BudgetError, match="no configuration states its latency"):
        model.at("latency=5ms")


def test_threads_use_different_widths_at_the_same_time(tmp_path: Path) -> None:
    dense = save(tmp_path, spec(), num_widths=4)
    model, x = load(tmp_path), images(spec())
    expected = {identity: extracted(x) for identity, extracted in dense.items()}
    wrong: list[str] = []

    def serve(identity: str) -> None:
        with torch.inference_mode():
            for _ in range(20):
                if not torch.equal(model.at(identity)(x), expected[identity]):
                    wrong.append(identity)

    threads = [threading.Thread(target=serve, args=(i,)) for i in list(dense) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def change(path: Path, **changes: Any) -> None:
    file = path / "configurations.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def test_damage_is_named(tmp_path: Path) -> None:
    save(tmp_path, spec())
    change(tmp_path, configurations=[{"id": "w-0", "widths": {"network.conv": 7}, "numbers": {}}])
    with pytest.raises(
        CheckpointError, match=r"configurations.json or .* cannot be read: KeyError"
    ):
        joslim.load(tmp_path)
    (tmp_path / "statistics.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"statistics.safetensors beside it cannot be read"):
        joslim.load(tmp_path)
