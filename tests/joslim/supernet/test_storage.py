"""Networks on disk."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from slimmable_folder import ALLOW, change, save
from small_training import spec
from torch import Tensor, nn

import joslim
from joslim.errors import CheckpointError, NetworkError
from joslim.supernet import configurations, storage
from joslim.supernet.saved_spec import WEIGHTS, read_spec
from joslim.supernet.storage import (
    digest,
    load_spec,
    load_subnetwork,
    load_supernet,
    save_subnetwork,
    save_supernet,
)
from joslim.supernet.subnetwork import Subnetwork

OLD = Path(__file__).with_name("saved_by_version_0.1")


def images() -> Tensor:
    return torch.rand(2, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def test_a_saved_subnetwork_loads_with_the_same_outputs(tmp_path: Path):
    torch.manual_seed(0)
    network = spec().build().eval()
    widths = network.space.random(torch.Generator().manual_seed(1))
    save_supernet(tmp_path / "supernet", network, spec())
    save_subnetwork(
        tmp_path / "sub", Subnetwork.of(network, spec(), widths, provenance={"id": "w-1"})
    )
    torch.testing.assert_close(joslim.load(tmp_path / "sub")(images()), network(images(), widths))
    loaded, loaded_spec = load_supernet(tmp_path / "supernet")
    assert loaded_spec == spec()
    assert torch.equal(loaded.eval()(images()), network(images()))
    again = load_subnetwork(tmp_path / "sub")
    assert again.provenance == {"id": "w-1"}
    names = [group.name for group in network.space.groups]
    assert again.widths == dict(zip(names, widths, strict=True))
    assert again.attributes["network.conv.out_channels"] == widths[0]


@pytest.mark.parametrize(
    "name", ["torchvision:mobilenet_v2", "torchvision:densenet121", "small_transformers:vit"]
)
def test_loading_traces_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 64 if "vit" in name else 32
    normalised = {"mean": (0.5,) * 3, "std": (0.2,) * 3}
    small = spec(network=name, in_channels=3, image_size=size, **normalised)
    network = small.build(allow=ALLOW).eval()
    widths = network.space.smallest
    save_subnetwork(tmp_path, Subnetwork.of(network, small, widths))
    monkeypatch.setattr("joslim.tracing.trace", None)
    batch = torch.rand(1, 3, size, size)
    with torch.no_grad():
        found, expected = joslim.load(tmp_path, allow=ALLOW)(batch), network(batch, widths)
    torch.testing.assert_close(found, expected)
    described = {k: str(m) for k, m in network.extract(widths).named_modules()}
    loaded = joslim.load(tmp_path, allow=ALLOW)
    assert {k: str(m) for k, m in loaded.named_modules()} == described


def test_an_own_module_is_saved_and_loaded_without_a_name(tmp_path: Path):
    def own() -> nn.Module:
        layers = nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(8, 10))

    mine = spec(network="mine")
    network = mine.build(model=own()).eval()
    widths = network.space.smallest
    save_subnetwork(tmp_path / "sub", Subnetwork.of(network, mine, widths))
    save_supernet(tmp_path / "supernet", network, mine)
    expected = network(images(), widths)
    torch.testing.assert_close(joslim.load(tmp_path / "sub", own())(images()), expected)
    with pytest.raises(NetworkError, match=r"'mine'; expected .*; if it is your own, give it"):
        joslim.load(tmp_path / "sub")
    loaded, _ = load_supernet(tmp_path / "supernet", own())
    torch.testing.assert_close(loaded.eval()(images(), widths), expected)


def test_networks_saved_by_version_0_1_load():
    with pytest.warns(UserWarning, match=r"of format 1, without a digest of the weights and of "):
        network, old_spec = load_supernet(OLD / "supernet")
    assert old_spec == spec(mean=(0.3,), std=(0.4,))
    for name, tensor in network.model.state_dict().items():
        if tensor.is_floating_point() and name not in ("mean", "std"):
            counted = torch.arange(tensor.numel()) % 13 / 100 + 0.01
            assert torch.equal(tensor, counted.view(tensor.shape)), name
    with pytest.warns(UserWarning, match=r"damage would not be seen; save the network again"):
        sub = load_subnetwork(OLD / "subnetwork")
    assert sub.provenance == {"kind": "budget", "id": "w-1", "budget": "tiny"}
    assert tuple(sub.widths.values()) == network.space.smallest == (7, 7, 14, 14, 28, 28)
    expected = network.eval()(images(), network.space.smallest)
    torch.testing.assert_close(sub.model(images()), expected)


def change_spec(folder: Path, **changes: Any) -> None:
    change(folder / "spec.json", **changes)


def test_damaged_networks_are_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"spec.json cannot be read"):
        joslim.load(tmp_path)
    network = spec().build()
    save_supernet(tmp_path, network, spec())
    change_spec(tmp_path, format=4)
    with pytest.raises(CheckpointError, match=r"spec.json is of format 4; expected at most 3"):
        joslim.load(tmp_path)
    change_spec(tmp_path, format=3, attributes={"network.conv.out_channels": "16"})
    with pytest.raises(CheckpointError, match=r"'network.conv.out_channels' is '16'; expected wh"):
        joslim.load(tmp_path)
    change_spec(tmp_path, attributes={"network.conv.forward": 16})
    with pytest.raises(CheckpointError, match=r"the network has no 'network.conv.forward' now"):
        joslim.load(tmp_path)
    (tmp_path / "spec.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"is not a network's spec: network: .*[Rr]equired"):
        joslim.load(tmp_path)
    (tmp_path / "spec.json").write_text('{"format": 2}')
    with pytest.raises(CheckpointError, match=r"spec.json: widths: Field required"):
        joslim.load(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path):
    network = spec().build()
    for name in ("smallest", "full"):
        widths = getattr(network.space, name)
        save_subnetwork(tmp_path / name, Subnetwork.of(network, spec(), widths))
    (tmp_path / "full" / WEIGHTS).replace(tmp_path / "smallest" / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"is not the file that .*spec.json was written with"):
        joslim.load(tmp_path / "smallest")
    with pytest.raises(CheckpointError, match=r"full/weights.safetensors cannot be read"):
        joslim.load(tmp_path / "full")


def test_channel_groups_that_no_longer_exist_are_named(tmp_path: Path):
    network = spec().build()
    save_supernet(tmp_path, network, spec())
    groups = dict(read_spec(tmp_path).widths)
    groups["network.gone"] = groups.pop("network.conv")
    change_spec(tmp_path, widths=groups)
    with pytest.raises(CheckpointError, match=r"differ in network.conv, network.gone$"):
        load_supernet(tmp_path)
    save_subnetwork(tmp_path, Subnetwork.of(network, spec(), network.space.smallest))
    change_spec(tmp_path, network="resnet14-half")
    with pytest.raises(CheckpointError, match=r"is of another network than the 'resnet14-half'"):
        joslim.load(tmp_path)


def test_tied_weights_are_saved(tmp_path: Path):
    def tied() -> nn.Module:
        first, second = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        third = nn.Conv2d(8, 8, 3)
        third.weight = second.weight
        layers = first, nn.ReLU(), second, third, nn.AdaptiveAvgPool2d(1), nn.Flatten()
        return nn.Sequential(nn.Conv2d(1, 16, 1), nn.Conv2d(16, 1, 1), *layers, nn.Linear(8, 10))

    mine = spec(network="mine")
    network = mine.build(model=tied()).eval()
    save_subnetwork(tmp_path, Subnetwork.of(network, mine, network.space.smallest))
    found = joslim.load(tmp_path, tied())(images())
    torch.testing.assert_close(found, network(images(), network.space.smallest))


def test_another_network_of_the_same_layers_is_refused(tmp_path: Path):
    def own(kernel: int) -> nn.Module:
        layers = nn.Conv2d(1, 16, kernel, padding=kernel // 2), nn.AdaptiveAvgPool2d(1)
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 10))

    mine = spec(network="mine")
    network = mine.build(model=own(3))
    save_subnetwork(tmp_path, Subnetwork.of(network, mine, network.space.smallest))
    with pytest.raises(CheckpointError, match="is of another network than the 'mine' that is"):
        joslim.load(tmp_path, own(5))


@pytest.mark.parametrize(
    "changes",
    [
        {"widths": [1]},
        {"mean": "abc"},
        {"leaves": None},
        {"divisor": "x"},
        {"extra": 1},
        {"num_classes": "10"},
        {"num_classes": True},
        {"num_classes": 10**12},
        {"image_size": 10**9},
        {"in_channels": 0},
        {"mean": [0.5, 0.5]},
        {"std": [0.0]},
        {"std": [float("nan")]},
    ],
)
def test_values_of_other_types_are_named(changes: dict[str, Any], tmp_path: Path):
    save_supernet(tmp_path, spec().build(), spec())
    change_spec(tmp_path, **changes)
    (key,) = changes
    with pytest.raises(CheckpointError, match=rf"spec.json: .*{key}"):
        joslim.load(tmp_path)


def test_the_spec_alone_can_be_read(tmp_path: Path):
    followed = replace(spec(), min_width=0.5, divisor=2)
    save_supernet(tmp_path, followed.build(), followed)
    assert load_spec(tmp_path) == followed


def test_a_spec_that_is_no_object_or_nested_deeply_is_named(tmp_path: Path):
    file = tmp_path / "spec.json"
    for text, message in (
        ("[]", "spec.json holds a list; expected keys with values"),
        ("[" * 100_000, r"spec.json cannot be read: maximum recursion depth"),
        ('{"format": ' + "9" * 5000 + "}", r"spec.json cannot be read: Exceeds the limit"),
        ('{"format": true}', r"spec.json is of format True; expected at most 3"),
    ):
        file.write_text(text)
        with pytest.raises(CheckpointError, match=message):
            joslim.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean", [0.4]), ("widths", {"network.conv": 5}), ("provenance", {"id": "x"})],
)
def test_a_spec_that_was_edited_is_refused(key: str, value: Any, tmp_path: Path):
    network = spec().build()
    save_subnetwork(tmp_path, Subnetwork.of(network, spec(), network.space.smallest))
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(CheckpointError, match=r"spec.json was changed after it was written, or it"):
        joslim.load(tmp_path)


def test_networks_of_format_2_load_and_say_what_is_not_seen(tmp_path: Path):
    network = spec().build()
    save_subnetwork(tmp_path, Subnetwork.of(network, spec(), network.space.smallest))
    change_spec(tmp_path, format=2)
    with pytest.warns(UserWarning, match=r"of format 2, without a digest of itself: damage would"):
        joslim.load(tmp_path)


def rewrite_weights(folder: Path, name: str, change: Callable[[Tensor], Tensor]) -> None:
    """Change one tensor, and its file's digest with it."""
    tensors = load_file(folder / WEIGHTS)
    save_file({**tensors, name: change(tensors[name])}, folder / WEIGHTS)
    change_spec(folder, **{WEIGHTS: digest(folder / WEIGHTS)})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("network.conv.weight", lambda t: t / 0, "conv.weight' holds numbers that are not finite"),
        ("network.norm.running_var", lambda t: t * torch.inf, "running_var' holds numbers that"),
        ("network.conv.weight", Tensor.half, "conv.weight' is of torch.float16; expected torch.fl"),
        ("network.norm.num_batches_tracked", Tensor.float, "tracked' is of torch.float32; expect"),
    ],
)
def test_weights_that_are_no_numbers_or_of_another_type_are_refused(
    name: str, change: Callable[[Tensor], Tensor], message: str, tmp_path: Path
):
    network = spec().build()
    save_supernet(tmp_path, network, spec())
    rewrite_weights(tmp_path, name, change)
    with pytest.raises(CheckpointError, match=message):
        joslim.load(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_supernet(tmp_path)


def test_a_flipped_bit_is_seen(tmp_path: Path):
    save_supernet(tmp_path, spec().build(), spec())
    content = bytearray((tmp_path / WEIGHTS).read_bytes())
    content[-1] ^= 1
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match="its SHA-256 digest is another"):
        joslim.load(tmp_path)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path: Path):
    network = spec().build()
    with torch.no_grad():
        network.model.get_parameter("network.conv.weight")[0] = torch.nan
    with pytest.raises(CheckpointError, match=r"to be saved in .*conv.weight' holds numbers that"):
        save_supernet(tmp_path / "supernet", network, spec())
    assert not (tmp_path / "supernet").exists()


def test_a_mask_of_infinities_is_no_damage(tmp_path: Path):
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 8, 3), nn.Linear(8, 10)
            self.register_buffer("mask", torch.full((3,), -torch.inf))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x).mean((2, 3)))

    mine = spec(network="mine")
    network = mine.build(model=Masked())
    save_supernet(tmp_path, network, mine)
    assert torch.equal(joslim.load(tmp_path, Masked()).network.mask, torch.full((3,), -torch.inf))


def test_no_file_is_read_or_hashed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save(tmp_path, spec())
    hashed, read = [], []
    monkeypatch.setattr(storage, "digest", counting(storage.digest, hashed))
    monkeypatch.setattr(configurations, "digest", counting(configurations.digest, hashed))
    monkeypatch.setattr(Path, "read_text", counting(Path.read_text, read))
    joslim.load(tmp_path)
    assert sorted(hashed) == [tmp_path / "private.safetensors", tmp_path / WEIGHTS]
    assert sorted(read) == [tmp_path / "configurations.json", tmp_path / "spec.json"]


def counting(function: Callable[..., Any], seen: list[Path]) -> Callable[..., Any]:
    def counted(path: Path, *arguments: Any, **options: Any) -> Any:
        seen.append(path)
        return function(path, *arguments, **options)

    return counted
