"""The file ``spec.json`` of a saved network: how it is built again, and what its weights are."""

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from joslim.errors import CheckpointError
from joslim.supernet.spec import NetworkSpec, first_reason
from joslim.supernet.subnetwork import Subnetwork

WEIGHTS, SPEC = "weights.safetensors", "spec.json"

FORMAT = 3
"""Version of the files; older ones are read too. In version 1, widths stood by the groups'
positions, without a digest of the weights. In version 2, the spec had no digest of itself."""

_UNSEEN = {1: "the weights and of itself", 2: "itself"}

DIGEST = "digest"
"""Key of a file's digest of all that is in it beside."""


@dataclass(frozen=True)
class SavedSpec:
    """What ``spec.json`` says.

    Attributes:
        format: Version of the files.
        spec: The supernet's.
        widths: Channels by the name of each channel group, in version 1 by its position.
        attributes: What layers say about their channels, by ``PATH.NAME``.
        architecture: Digest of the names and shapes of the full network's tensors.
        provenance: Where the network comes from.
        weights: SHA-256 of the file of weights; None in version 1.
    """

    format: int
    spec: NetworkSpec
    widths: Mapping[str, int]
    attributes: Mapping[str, int | Sequence[int]]
    architecture: str
    provenance: Mapping[str, Any]
    weights: str | None


def write_spec(path: Path, subnetwork: Subnetwork, weights: str) -> None:
    """Write the spec of ``subnetwork`` into the folder ``path``; ``weights`` is their SHA-256."""
    content = {
        "format": FORMAT,
        **subnetwork.spec.to_json(),
        "widths": dict(subnetwork.widths),
        "attributes": dict(subnetwork.attributes),
        "architecture": subnetwork.architecture,
        "provenance": dict(subnetwork.provenance),
        WEIGHTS: weights,
    }
    (path / SPEC).write_text(json.dumps(signed(content), indent=1) + "\n")


class _Version1(BaseModel):
    """The types of what a spec holds beside the fields of `NetworkSpec`, in version 1."""

    model_config = ConfigDict(strict=True)

    widths: list[int] = []
    provenance: dict[str, Any] = {}


class _Version2(BaseModel):
    """Likewise since version 2."""

    model_config = ConfigDict(strict=True)

    widths: dict[str, int]
    attributes: dict[str, Any]
    architecture: str
    provenance: dict[str, Any]
    weights: str = Field(alias="weights.safetensors")


def read_spec(path: Path) -> SavedSpec:
    """The spec of the network saved in the folder ``path``.

    Raises:
        CheckpointError: If it is missing, damaged, changed since it was written, or of a version
            that is not known.
    """
    file = path / SPEC
    content = read_object(file)
    version = content.pop("format", 1)
    if type(version) is not int or version not in range(1, FORMAT + 1):
        raise CheckpointError(
            f"{file} is of format {version!r}; expected at most {FORMAT}, so a newer version of "
            "joslim has written it"
        )
    kind = _Version2 if version > 1 else _Version1
    named = {field.alias or name for name, field in kind.model_fields.items()}
    beside = {key: content[key] for key in named & content.keys()}
    try:
        found: Any = kind.model_validate(beside)
        own = {k: v for k, v in content.items() if k not in named and k != DIGEST}
        spec = NetworkSpec.from_json(own)
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_reason(error)}") from error
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    if version == FORMAT:
        require_unchanged(file, {"format": version, **content})
    else:
        warnings.warn(
            f"{file} is of format {version}, without a digest of {_UNSEEN[version]}: damage would "
            "not be seen; save the network again",
            stacklevel=2,
        )
    if version == 1:
        positions = {str(i): width for i, width in enumerate(found.widths)}
        return SavedSpec(1, spec, positions, {}, "", found.provenance, None)
    return SavedSpec(
        version,
        spec,
        found.widths,
        found.attributes,
        found.architecture,
        found.provenance,
        found.weights,
    )


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        CheckpointError: If it is missing, or holds something else.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}; expected keys with values")
    return content


def signed(content: Mapping[str, Any]) -> dict[str, Any]:
    """``content`` with the digest that `require_unchanged` looks for."""
    return {**content, DIGEST: _digest(content)}


def require_unchanged(file: Path, content: Mapping[str, Any]) -> None:
    """Refuse what a file holds, if it is not what `signed` gave.

    Raises:
        CheckpointError: If its digest is missing or another.
    """
    rest = {key: value for key, value in content.items() if key != DIGEST}
    try:
        is_unchanged = content.get(DIGEST) == _digest(rest)
    except RecursionError as error:
        raise CheckpointError(f"{file} is nested too deeply") from error
    if not is_unchanged:
        raise CheckpointError(
            f"{file} was changed after it was written, or it is damaged: its {DIGEST} is not that "
            "of its content; save the network again"
        )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
