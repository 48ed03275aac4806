"""Networks on disk: safetensors beside a JSON spec, never a pickle.

A folder holds ``weights.safetensors`` and ``spec.json``. The spec says how to build the network
again, how many channels each group has, and where the network comes from, so that it can be loaded
anywhere and trained on. Both files have their digest in the spec.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from joslim.errors import CheckpointError, NetworkError
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.private import statistics
from joslim.supernet.saved_spec import SPEC, WEIGHTS, SavedSpec, read_spec, write_spec
from joslim.supernet.slicing import tensor_at
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.subnetwork import Subnetwork, architecture, widths_by_name

BESIDE_SLIMMABLE = ("configurations.json", "private.safetensors")
"""What `joslim.supernet.artifact` writes beside; gone when something else is saved in its place."""


def save_supernet(
    path: Path, network: SlimmableNetwork, spec: NetworkSpec, *, kind: str = "supernet"
) -> None:
    """Save a supernet: all shared weights and its spec, whose provenance says ``kind``.

    Raises:
        CheckpointError: If its weights are not finite.
    """
    widths = widths_by_name(network, network.space.full)
    provenance = {"kind": kind}
    save_subnetwork(
        path, Subnetwork(network.model, spec, widths, {}, architecture(network.model), provenance)
    )


def load_supernet(
    path: Path, model: nn.Module | None = None, *, allow: Collection[str] = ()
) -> tuple[SlimmableNetwork, NetworkSpec]:
    """Load a supernet that `save_supernet` saved.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; its weights are replaced.
        allow: Own code that its spec may name, as `joslim.load` takes it.

    Raises:
        CheckpointError: If a file is missing or damaged, the two do not belong together, or the
            network that can be built now has other channel groups.
        NetworkError: If it cannot be built, or names code that is not allowed.
    """
    saved = read_spec(path)
    weights = _read_weights(path, saved)
    network = saved.spec.build(model=model, allow=allow)
    if saved.format > 1:
        _check_architecture(network.model, saved, path)
        groups, found = dict(saved.widths), widths_by_name(network, network.space.full)
        if groups != found:
            changed = sorted(dict(groups.items() ^ found.items()))
            raise CheckpointError(
                f"{path / SPEC} was saved with other channel groups than are found in "
                f"'{saved.spec.network}' now: they differ in {', '.join(changed[:5])}"
            )
    _load_weights_(network.model, weights, path)
    return network, saved.spec


def save_subnetwork(path: Path, subnetwork: Subnetwork) -> None:
    """Save a dense sub-network.

    Raises:
        CheckpointError: If its weights are not finite.
    """
    json.dumps([dict(subnetwork.attributes), dict(subnetwork.provenance)])  # before any is written
    _require_finite(subnetwork.model, f"the network to be saved in {path}")
    path.mkdir(parents=True, exist_ok=True)
    for other in BESIDE_SLIMMABLE:
        (path / other).unlink(missing_ok=True)
    save_file(_tensors(subnetwork.model), path / WEIGHTS)
    write_spec(path, subnetwork, digest(path / WEIGHTS))


def load_subnetwork(
    path: str | Path, model: nn.Module | None = None, *, allow: Collection[str] = ()
) -> Subnetwork:
    """Load a saved network as a dense one; nothing is traced.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; it is changed into the sub-network.
        allow: Own code that its spec may name, as `joslim.load` takes it.

    Raises:
        CheckpointError: If a file is missing or damaged, or the two do not belong together.
        NetworkError: If it cannot be built, or names code that is not allowed.
    """
    return read_subnetwork(Path(path), read_spec(Path(path)), model, allow)


def read_subnetwork(
    path: Path, saved: SavedSpec, model: nn.Module | None, allow: Collection[str]
) -> Subnetwork:
    """What `load_subnetwork` loads from a folder whose spec is read already."""
    spec, weights = saved.spec, _read_weights(path, saved)
    if saved.format == 1:
        network = spec.build(model=model, allow=allow)
        widths = tuple(saved.widths.values())
        subnetwork = Subnetwork.of(network, spec, widths, provenance=saved.provenance)
    else:
        dense = _own_or_named(spec, model, allow)
        _check_architecture(dense, saved, path)
        subnetwork = Subnetwork(
            dense, spec, saved.widths, saved.attributes, saved.architecture, saved.provenance
        )
        for key, value in subnetwork.attributes.items():
            _set_attribute(dense, key, value, path)
        _check_types(dense, weights, path)
        for name in weights.keys() & dense.state_dict().keys():
            tensor_at(dense, name).data = weights[name].clone()
    _load_weights_(subnetwork.model.eval(), weights, path)
    return subnetwork


def load_spec(path: Path) -> NetworkSpec:
    """The supernet's spec of a saved network; raises as `read_spec` does."""
    return read_spec(path).spec


def _own_or_named(spec: NetworkSpec, model: nn.Module | None, allow: Collection[str]) -> nn.Module:
    try:
        return spec.build_dense(model, allow=allow)
    except NetworkError as error:
        raise NetworkError(f"{error}; if it is your own, give it: load(folder, model)") from error


def _check_architecture(model: nn.Module, saved: SavedSpec, path: Path) -> None:
    if architecture(model) != saved.architecture:
        raise CheckpointError(
            f"{path / SPEC} is of another network than the '{saved.spec.network}' that is built "
            "now: names or shapes of the full network's tensors differ"
        )


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
    if (
        not isinstance(after, list)
        or len(after) != len(before)
        or not all(type(n) is int and n > 0 for n in (*before, *after))
    ):
        raise CheckpointError(
            f"{path / SPEC}: '{key}' is {value!r}; expected whole numbers as {current!r}"
        )
    setattr(module, name, type(current)(value) if is_many else value)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _read_weights(path: Path, saved: SavedSpec) -> dict[str, Tensor]:
    """The saved tensors, if they are those with which the spec was written."""
    file = path / WEIGHTS
    try:
        if saved.weights is not None and digest(file) != saved.weights:
            raise CheckpointError(
                f"{file} is not the file that {path / SPEC} was written with, or it is damaged: "
                "its SHA-256 digest is another"
            )
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def _load_weights_(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    _check_types(model, weights, path)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = shorten(str(error), 300)
        raise CheckpointError(f"{path / WEIGHTS} does not fit {path / SPEC}: {reason}") from error
    _require_finite(model, str(path / WEIGHTS))


def _check_types(model: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    for name, own in model.state_dict().items():
        if name in weights and weights[name].dtype != own.dtype:
            raise CheckpointError(
                f"{path / WEIGHTS}: '{name}' is of {weights[name].dtype}; expected {own.dtype}, as "
                "the network that is built has it"
            )


def _require_finite(model: nn.Module, what: str) -> None:
    """Refuse weights and statistics that are no numbers; other buffers may hold an infinity."""
    numbers = {**dict(model.named_parameters()), **statistics(model)}
    for name, tensor in numbers.items():
        if not tensor.isfinite().all():
            raise CheckpointError(f"{what}: '{name}' holds numbers that are not finite")
    for name, buffer in model.named_buffers():
        if buffer.isnan().any():
            raise CheckpointError(f"{what}: '{name}' holds NaN")
