"""Own code that a stored network names is imported only if the caller allows it."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from slimmable_folder import change, save
from small_training import spec

import joslim
from joslim.errors import NetworkError
from joslim.supernet import load_subnetwork, load_supernet
from joslim.supernet.artifact import extract_subnetwork, load_slimmable
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_spec

NET = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
from joslim.networks import create
def small_net(num_classes, in_channels):
    return create("resnet8-half", num_classes, in_channels)
"""

LOADERS: dict[str, Callable[..., Any]] = {
    "load": joslim.load,
    "load_slimmable": load_slimmable,
    "load_subnetwork": load_subnetwork,
    "load_supernet": load_supernet,
    "extract_subnetwork": lambda path, **options: extract_subnetwork(path, "w-0", **options),
    "spec": lambda path, **options: load_spec(path).build(**options),
    "dense spec": lambda path, **options: load_spec(path).build_dense(**options),
}


@pytest.fixture
def stranger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose spec names a module of the working directory."""
    (tmp_path / "strange_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    save(tmp_path / "saved", spec())
    change(tmp_path / "saved/spec.json", network="strange_net:small_net")
    yield tmp_path / "saved"
    sys.modules.pop("strange_net", None)


@pytest.mark.parametrize("name", LOADERS)
def test_nothing_is_imported_that_is_not_allowed(name: str, stranger: Path) -> None:
    marker = stranger.with_name("imported")
    with pytest.raises(NetworkError, match=r"allow it by name: allow=\('strange_net',\)"):
        LOADERS[name](stranger)
    change(stranger / "spec.json", network="resnet8-half", leaves=["strange_net:Leaf"])
    with pytest.raises(NetworkError, match=r"'strange_net:Leaf' is no network of joslim, torchvi"):
        LOADERS[name](stranger, allow=("strange", "strange_net.sub", "strange_net:Other", ""))
    assert not marker.exists()
    change(stranger / "spec.json", network="strange_net:small_net", leaves=[])
    LOADERS[name](stranger, allow=("strange_net",))
    assert marker.exists()


@pytest.mark.parametrize("allow", [("strange_net",), ["strange_net:small_net"], {"strange_net"}])
def test_what_is_allowed_gives_the_network(allow: Any, stranger: Path) -> None:
    images = torch.rand(2, 1, 12, 12)
    expected = load_slimmable(stranger, joslim.networks.create("resnet8-half", 10, 1))
    found = joslim.load(stranger, allow=allow)
    assert torch.equal(found.at("w-0")(images), expected.at("w-0")(images))


def test_a_leaf_is_not_imported_for_a_model_of_ones_own_either(stranger: Path) -> None:
    change(stranger / "spec.json", leaves=["strange_net:Leaf"])
    with pytest.raises(NetworkError, match="'strange_net:Leaf' is no network of"):
        joslim.load(stranger, joslim.networks.create("resnet8-half", 10, 1))
    assert not stranger.with_name("imported").exists()


def test_a_package_is_allowed_with_all_that_is_in_it() -> None:
    own = replace(spec(), network="small_transformers.nothing:vit")
    with pytest.raises(NetworkError, match=r"small_transformers.nothing:vit' cannot be imported"):
        own.build(allow=("small_transformers",))
    with pytest.raises(NetworkError, match=r"allow is 'mynet'; expected several names, as allow="):
        own.build(allow="mynet")


@pytest.mark.parametrize(
    "name",
    [
        "torchvision:", "torchvision:list_models", "torchvision:models.resnet18", "torchvision:fcn",
        "timm:create_model", "timm:hf_hub:owner/name", "timm:hf-hub:owner/name",
        "timm:local-dir:/tmp", "timm:../name", "timm:",
        "torchvision.models:list_models", "timm.models:create_model", "os:system", ":", "a:b:c",
    ],
)  # fmt: skip
def test_only_classifiers_of_the_libraries_are_reached_by_name(name: str) -> None:
    with pytest.raises(NetworkError):
        NetworkSpec(name, 10, 3, 32, (0.5,) * 3, (0.2,) * 3).build()
