"""One stored network at all widths: the same outputs as extracted ones, and no weight twice."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from slimmable_folder import NETWORKS, change, colour_spec, images, load, save, with_budget
from small_training import spec
from torch import Tensor, nn

import joslim
from joslim.errors import BudgetError, CheckpointError, WidthError
from joslim.supernet import Configuration, SlimmableModel, save_slimmable, save_subnetwork
from joslim.supernet.artifact import extract_subnetwork, save_extended
from joslim.supernet.storage import digest


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


class Lists(nn.Module):
    """Runs its layers from a list, which is no child of it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 16, 3), nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 10)
        self.steps = [self.conv, self.norm]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return self.head(x.mean((2, 3)))


def test_layers_that_stand_in_lists_are_narrow_too(tmp_path: Path) -> None:
    mine = spec(network="mine")
    network = mine.build(model=Lists()).eval()
    widths = network.space.smallest
    numbers = {"macs": 1.0, "val_top1": 0.5}
    dense = network.extract(widths).eval()
    kept = [(Configuration("run:1", widths, numbers), dense)]
    save_slimmable(tmp_path, network, mine, kept, numbers)
    model = joslim.load(tmp_path, Lists())
    assert isinstance(model, SlimmableModel)
    assert torch.equal(model.at("run:1")(images(mine)), dense(images(mine)))
    with pytest.raises(WidthError, match="two configurations have the same id"):
        save_slimmable(tmp_path, network, mine, kept * 2, numbers)


def test_what_is_done_to_one_width_is_not_done_to_another(tmp_path: Path) -> None:
    dense = save(tmp_path, spec())
    model, x = load(tmp_path), images(spec())
    fired: list[str] = []
    model.at("w-0").double().register_forward_hook(lambda *_: fired.append("w-0"))
    assert torch.equal(model.at("w-1")(x), dense["w-1"](x))
    assert fired == []
    with torch.inference_mode():
        model.to("cpu").at("w-0")(x)
    x.requires_grad_()
    model.at("w-0")(x).sum().backward()
    assert model.at(list(model.configurations[0].widths)) is model.at("w-0")


def test_a_configuration_may_have_parameters_of_its_own(tmp_path: Path) -> None:
    save(tmp_path / "front", spec())
    model = with_budget(load(tmp_path / "front"))
    save_extended(tmp_path / "all", tmp_path / "front", model)
    again, x = load(tmp_path / "all"), images(spec())
    assert again.configurations == model.configurations
    assert torch.equal(again.at("tiny")(x), model.at("tiny")(x))
    assert not torch.allclose(again.at("tiny")(x), again.at("w-0")(x), rtol=0.1)
    assert again.at("macs=100%") is again.at(again.configuration("w-0").widths) is again.at("tiny")
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("front", "all")]
    assert weights[0] == weights[1]


def test_what_two_configurations_have_alike_is_stored_once(tmp_path: Path) -> None:
    save(tmp_path / "front", spec())
    front = load(tmp_path / "front")
    same = Configuration("tiny", front.configuration("w-0").widths, {"macs": 1.0, "val_top1": 0.9})
    save_extended(
        tmp_path / "all", tmp_path / "front", front.extended([(same, front.private["w-0"])])
    )
    sizes = [(tmp_path / f / "private.safetensors").stat().st_size for f in ("front", "all")]
    assert sizes[0] == sizes[1]
    again, x = load(tmp_path / "all"), images(spec())
    assert torch.equal(again.at("tiny")(x), front.at("w-0")(x))


def test_an_extracted_network_owns_its_weights(tmp_path: Path) -> None:
    dense = save(tmp_path, spec())
    model, x = load(tmp_path), images(spec())
    extracted = model.extract("w-0").train()
    extracted(x).sum().backward()
    with torch.no_grad():
        for parameter in extracted.parameters():
            assert parameter.grad is not None
            parameter.zero_()
    assert torch.equal(model.at("w-0")(x), dense["w-0"](x))


def test_a_configuration_can_be_saved_alone(tmp_path: Path) -> None:
    dense = save(tmp_path / "all", spec())
    save_subnetwork(tmp_path / "one", extract_subnetwork(tmp_path / "all", "w-2"))
    alone = joslim.load(tmp_path / "one")
    assert isinstance(alone, nn.Module)
    assert torch.equal(alone(images(spec())), dense["w-2"](images(spec())))


def test_damage_is_named(tmp_path: Path) -> None:
    save(tmp_path, spec())
    file = tmp_path / "configurations.json"
    written = file.read_text()
    rows = json.loads(written)["configurations"]
    for width in (99, rows[0]["widths"]["network.conv"] + 1):
        rows[0]["widths"]["network.conv"] = width
        change(file, configurations=rows)
        with pytest.raises(CheckpointError, match="cannot have the widths of configuration 'w-0'"):
            joslim.load(tmp_path)
    file.write_text(written.replace('"val_top1":0.5', '"val_top1":0.6', 1))
    with pytest.raises(CheckpointError, match=r"configurations.json was changed after it was writ"):
        joslim.load(tmp_path)
    file.write_text(written)
    (tmp_path / "private.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match=r"private.safetensors is not the file that"):
        joslim.load(tmp_path)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"configurations.json cannot be read: .*No such"):
        joslim.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("configurations", [{"id": "w-0"}], r"configurations.0.widths: Field required"),
        ("configurations", {}, r"configurations: Input should be a valid array"),
        ("groups", ["network.gone"], r"the slices of '.*' are of another network"),
        ("full", {"macs": float("nan")}, r"full.macs: Input should be a finite number"),
        ("private", [["network.gone"]], r"there is no 'network.gone'"),
        ("attributes", {"network.conv.forward": [8]}, r"there is no 'forward'"),
        ("attributes", {"gone.out_channels": [8]}, r"there is no .*gone"),
        (
            "tensors",
            {"network.conv.weight": [[[0, 1, 99]], 1, 3, 3]},
            r"the slices of 'network.conv.w",
        ),
    ],
)
def test_an_odd_value_is_named(key: str, value: Any, message: str, tmp_path: Path) -> None:
    save(tmp_path, spec())
    change(tmp_path / "configurations.json", **{key: value})
    with pytest.raises(CheckpointError, match=rf"configurations.json: {message}"):
        joslim.load(tmp_path)


def test_statistics_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    save(tmp_path, spec())
    file = tmp_path / "private.safetensors"
    tensors = load_file(file)
    tensors["w-0"][3] = float("nan")
    save_file(tensors, file)
    change(tmp_path / "configurations.json", **{file.name: digest(file)})
    with pytest.raises(CheckpointError, match=r"of configuration 'w-0' are .* not finite"):
        joslim.load(tmp_path)


def test_it_shows_what_it_holds(tmp_path: Path) -> None:
    save(tmp_path, spec())
    assert repr(load(tmp_path)) == "SlimmableModel(3 configurations: w-0, w-2, w-1)"
