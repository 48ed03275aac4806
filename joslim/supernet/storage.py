"""Networks on disk: safetensors beside a JSON spec, never a pickle.

A folder holds ``weights.safetensors`` and ``spec.json``. The spec says how to build the network
again, how many channels each group has, and where the network comes from, so that it can be loaded
anywhere and trained on.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from joslim.errors import CheckpointError
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.slicing import tensor_at
from joslim.supernet.spec import NetworkSpec
from joslim.widths import Widths

WEIGHTS, SPEC = "weights.safetensors", "spec.json"

FORMAT = 2
"""Version of the files. In version 1, which is read too, widths stood by the groups' positions."""


@dataclass(frozen=True)
class Subnetwork:
    """A dense network that was taken out of a supernet, with all that is saved with it.

    Attributes:
        model: Images in [0, 1], ``(batch, channels, height, width)``, to logits.
        spec: The supernet's.
        widths: Channels by the name of each channel group.
        attributes: What layers say about their channels, by ``PATH.NAME``, as
            ``network.conv.out_channels``.
        provenance: Where it comes from, in JSON values.
    """

    model: nn.Module
    spec: NetworkSpec
    widths: Mapping[str, int]
    attributes: Mapping[str, int | Sequence[int]]
    provenance: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        network: SlimmableNetwork,
        spec: NetworkSpec,
        widths: Widths,
        model: nn.Module | None = None,
        **provenance: Any,
    ) -> "Subnetwork":
        """The sub-network at ``widths``, extracted now, or ``model`` if it was before."""
        return cls(
            network.extract(widths) if model is None else model,
            spec,
            _by_name(network, widths),
            {".".join(key): value for key, value in network.attributes_at(widths).items()},
            provenance,
        )


def save_supernet(path: Path, network: SlimmableNetwork, spec: NetworkSpec) -> None:
    """Save a supernet: all shared weights and its spec."""
    widths = _by_name(network, network.space.full)
    _save(path, Subnetwork(network.model, spec, widths, {}, {"kind": "supernet"}))


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
        saved, found = dict(content["widths"]), _by_name(network, network.space.full)
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
        subnetwork = Subnetwork.of(network, spec, widths, **provenance)
    else:
        dense = spec.build_dense(model)
        subnetwork = Subnetwork(dense, spec, content["widths"], content["attributes"], provenance)
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
    missing = [
        key for key in ("widths", "attributes", WEIGHTS) if version > 1 and key not in content
    ]
    if missing:
        raise CheckpointError(f"{file} lacks {', '.join(missing)}")
    return content


def load_spec(path: Path) -> NetworkSpec:
    """The supernet's spec of a saved network; raises as `read_spec` does."""
    return _spec(path, read_spec(path))


def _spec(path: Path, content: Mapping[str, Any]) -> NetworkSpec:
    others = ("format", "widths", "attributes", "provenance", WEIGHTS)
    try:
        return NetworkSpec.from_json({k: v for k, v in content.items() if k not in others})
    except CheckpointError as error:
        raise CheckpointError(f"{path / SPEC}: {error}") from error


def _by_name(network: SlimmableNetwork, widths: Widths) -> dict[str, int]:
    groups = network.space.groups
    named = {group.name: width for group, width in zip(groups, widths, strict=True)}
    assert len(named) == len(groups), "channel groups share a name"
    return named


def _save(path: Path, subnetwork: Subnetwork) -> None:
    path.mkdir(parents=True, exist_ok=True)
    state = subnetwork.model.state_dict()
    save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, path / WEIGHTS)
    content = {
        "format": FORMAT,
        **subnetwork.spec.to_json(),
        "widths": dict(subnetwork.widths),
        "attributes": dict(subnetwork.attributes),
        "provenance": dict(subnetwork.provenance),
        WEIGHTS: _digest(path / WEIGHTS),
    }
    (path / SPEC).write_text(json.dumps(content, indent=1) + "\n")


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


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _read_weights(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The saved tensors, if they are those with which the spec was written."""
    file = path / WEIGHTS
    try:
        if content["format"] > 1 and _digest(file) != content[WEIGHTS]:
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
