"""Networks on disk: safetensors beside a JSON spec, never a pickle.

A folder holds ``weights.safetensors`` and ``spec.json``. The spec says how to build the network
again, how many channels each group has, and where the network comes from, so that it can be loaded
anywhere and trained on.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from pydantic import BaseModel, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from joslim.errors import CheckpointError, NetworkError
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.slicing import tensor_at
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.subnetwork import Subnetwork, architecture, widths_by_name

WEIGHTS, SPEC = "weights.safetensors", "spec.json"

BESIDE_SLIMMABLE = ("configurations.json", "private.safetensors")
"""What `joslim.supernet.artifact` writes beside; gone when something else is saved in its place."""

FORMAT = 2
"""Version of the files. In version 1, which is read too, widths stood by the groups' positions."""


def save_supernet(
    path: Path, network: SlimmableNetwork, spec: NetworkSpec, *, kind: str = "supernet"
) -> None:
    """Save a supernet: all shared weights and its spec, whose provenance says ``kind``."""
    widths = widths_by_name(network, network.space.full)
    provenance = {"kind": kind}
    _save(
        path, Subnetwork(network.model, spec, widths, {}, architecture(network.model), provenance)
    )


def load_supernet(
    path: Path, model: nn.Module | None = None
) -> tuple[SlimmableNetwork, NetworkSpec]:
    """Load a supernet that `save_supernet` saved.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; its weights are replaced.

    Raises:
        CheckpointError: If a file is missing or damaged, the two do not belong together, or the
            network that can be built now has other channel groups.
    """
    content = read_spec(path)
    spec = _spec(path, content)
    network = spec.build(model=model)
    if content["format"] > 1:
        _check_architecture(network.model, content, path)
        saved, found = dict(content["widths"]), widths_by_name(network, network.space.full)
        if saved != found:
            changed = sorted(dict(saved.items() ^ found.items()))
            raise CheckpointError(
                f"{path / SPEC} was saved with other channel groups than are found in "
                f"'{spec.network}' now: they differ in {', '.join(changed[:5])}"
            )
    _load_weights_(network.model, _read_weights(path, content), path)
    return network, spec


def save_subnetwork(path: Path, subnetwork: Subnetwork) -> None:
    """Save a dense sub-network."""
    _save(path, subnetwork)


def load_subnetwork(path: str | Path, model: nn.Module | None = None) -> Subnetwork:
    """Load a saved network as a dense one; nothing is traced.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; it is changed into the sub-network.

    Raises:
        CheckpointError: If a file is missing or damaged, or the two do not belong together.
    """
    path = Path(path)
    content = read_spec(path)
    spec, provenance = _spec(path, content), content.get("provenance", {})
    weights = _read_weights(path, content)
    if content["format"] == 1:
        network = spec.build(model=model)
        widths = tuple(content.get("widths", ()))
        subnetwork = Subnetwork.of(network, spec, widths, provenance=provenance)
    else:
        dense = _own_or_named(spec, model)
        _check_architecture(dense, content, path)
        subnetwork = Subnetwork(
            dense,
            spec,
            content["widths"],
            content["attributes"],
            content["architecture"],
            provenance,
        )
        for key, value in subnetwork.attributes.items():
            _set_attribute(dense, key, value, path)
        for name in weights.keys() & dense.state_dict().keys():
            tensor_at(dense, name).data = weights[name].clone()
    _load_weights_(subnetwork.model.eval(), weights, path)
    return subnetwork


def read_spec(path: Path) -> dict[str, Any]:
    """The JSON spec of a saved network.

    Raises:
        CheckpointError: If it is missing, damaged, or of a version that is not known.
    """
    file = path / SPEC
    try:
        content = json.loads(file.read_text())
        version = content.setdefault("format", 1)
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if version not in range(1, FORMAT + 1):
        raise CheckpointError(
            f"{file} is of format {version!r}; expected at most {FORMAT}, so a newer version of "
            "joslim has written it"
        )
    if version > 1:
        try:
            _Saved.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise CheckpointError(f"{file}: {key}: {first['msg']}") from error
    return content


class _Saved(BaseModel):
    """The types of what a spec holds beside the fields of `NetworkSpec`."""

    widths: dict[str, int]
    attributes: dict[str, Any]
    architecture: str
    provenance: dict[str, Any]
    weights: str = Field(alias="weights.safetensors")


def load_spec(path: Path) -> NetworkSpec:
    """The supernet's spec of a saved network; raises as `read_spec` does."""
    return _spec(path, read_spec(path))


def _spec(path: Path, content: Mapping[str, Any]) -> NetworkSpec:
    others = ("format", "widths", "attributes", "architecture", "provenance", WEIGHTS)
    try:
        return NetworkSpec.from_json({k: v for k, v in content.items() if k not in others})
    except CheckpointError as error:
        raise CheckpointError(f"{path / SPEC}: {error}") from error


def _own_or_named(spec: NetworkSpec, model: nn.Module | None) -> nn.Module:
    try:
        return spec.build_dense(model)
    except NetworkError as error:
        raise NetworkError(f"{error}; if it is your own, give it: load(folder, model)") from error


def _check_architecture(model: nn.Module, content: Mapping[str, Any], path: Path) -> None:
    if architecture(model) != content["architecture"]:
        raise CheckpointError(
            f"{path / SPEC} is of another network than the '{content['network']}' that is built "
            "now: names or shapes of the full network's tensors differ"
        )


def _save(path: Path, subnetwork: Subnetwork) -> None:
    content = {
        "format": FORMAT,
        **subnetwork.spec.to_json(),
        "widths": dict(subnetwork.widths),
        "attributes": dict(subnetwork.attributes),
        "architecture": subnetwork.architecture,
        "provenance": dict(subnetwork.provenance),
    }
    json.dumps(content)  # before anything is written
    path.mkdir(parents=True, exist_ok=True)
    for other in BESIDE_SLIMMABLE:
        (path / other).unlink(missing_ok=True)
    save_file(_tensors(subnetwork.model), path / WEIGHTS)
    content[WEIGHTS] = digest(path / WEIGHTS)
    (path / SPEC).write_text(json.dumps(content, indent=1) + "\n")


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state on the CPU, each tensor in memory of its own, as safetensors wants it."""
    tensors: dict[str, Tensor] = {}
    known: set[int] = set()
    for name, tensor in model.state_dict().items():
        tensor = tensor.cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        tensors[name] = tensor.clone() if storage in known else tensor
        known.add(storage)
    return tensors


def _set_attribute(model: nn.Module, key: str, value: Any, path: Path) -> None:
    """Set whole numbers where there were whole numbers; refuse anything else."""
    module_path, _, name = key.rpartition(".")
    try:
        module = model.get_submodule(module_path)
        current = vars(module)[name]
    except (AttributeError, KeyError) as error:
        raise CheckpointError(f"{path / SPEC}: the network has no '{key}' now") from error
    is_many = isinstance(current, tuple | list)
    before, after = (current, value) if is_many else ([current], [value])
    if not isinstance(after, list) or not all(type(n) is int for n in (*before, *after)):
        raise CheckpointError(
            f"{path / SPEC}: '{key}' is {value!r}; expected whole numbers as {current!r}"
        )
    setattr(module, name, type(current)(value) if is_many else value)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_weights(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The saved tensors, if they are those with which the spec was written."""
    file = path / WEIGHTS
    try:
        if content["format"] > 1 and digest(file) != content[WEIGHTS]:
            raise CheckpointError(
                f"{file} is not the file that {path / SPEC} was written with, or it is damaged: "
                "its SHA-256 digest is another"
            )
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _load_weights_(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = shorten(str(error), 300)
        raise CheckpointError(f"{path / WEIGHTS} does not fit {path / SPEC}: {reason}") from error
