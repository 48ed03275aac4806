"""The width configurations of a slimmable network on disk, beside its weights and spec."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from joslim.errors import CheckpointError, JoslimError
from joslim.supernet.saved_spec import (
    FORMAT,
    SavedSpec,
    read_object,
    require_unchanged,
    signed,
)
from joslim.supernet.slimmable_model import Configuration, Slices, SlimmableModel
from joslim.supernet.spec import first_reason
from joslim.supernet.storage import BESIDE_SLIMMABLE, WEIGHTS, digest
from joslim.tracing import Axis, Part

CONFIGURATIONS, PRIVATE = BESIDE_SLIMMABLE

_Size = Annotated[int, Field(ge=1)]
_Axes = list[_Size | list[tuple[Annotated[int, Field(ge=0)] | None, _Size, _Size]]]


class _Row(BaseModel):
    """A width configuration in the file."""

    model_config = ConfigDict(strict=True)

    id: str
    widths: dict[str, _Size]
    numbers: dict[str, FiniteFloat]
    private: Annotated[int, Field(ge=0)]
    place: str | None


class _File(BaseModel):
    """What the file holds; `write_configurations` says what it means."""

    model_config = ConfigDict(strict=True)

    weights: str = Field(alias="weights.safetensors")
    own: str = Field(alias="private.safetensors")
    full: dict[str, FiniteFloat]
    groups: tuple[str, ...]
    private: list[list[str]]
    configurations: list[_Row]
    tensors: dict[str, _Axes]
    attributes: dict[str, _Axes]


def write_configurations(path: Path, model: SlimmableModel) -> None:
    """Write what ``model`` has beside the weights and the spec, which are in ``path`` already."""
    groups = model.slices.groups
    names = {c.id: list(model.private[c.id]) for c in model.configurations}
    kinds = [list(kind) for kind in dict.fromkeys(map(tuple, names.values()))]
    joined = {
        identity: torch.cat([tensor.detach().cpu().flatten() for tensor in own.values()])
        for identity, own in model.private.items()
        if own
    }
    places = _places(joined)
    save_file({i: tensors for i, tensors in joined.items() if places[i] == i}, path / PRIVATE)
    rows = [
        {
            "id": c.id,
            "widths": dict(zip(groups, c.widths, strict=True)),
            "numbers": dict(c.numbers),
            "private": kinds.index(names[c.id]),
            "place": places.get(c.id),
        }
        for c in model.configurations
    ]
    content = {
        WEIGHTS: digest(path / WEIGHTS),
        PRIVATE: digest(path / PRIVATE),
        "full": dict(model.full),
        "groups": list(groups),
        "private": kinds,
        "configurations": rows,
        "tensors": {name: _axes_to_json(axes) for name, axes in model.slices.tensors.items()},
        "attributes": {
            ".".join(key): _axes_to_json(axes) for key, axes in model.slices.attributes.items()
        },
    }
    text = json.dumps(signed(content), separators=(",", ":"))
    (path / CONFIGURATIONS).write_text(text + "\n")


def read_configurations(path: Path, saved: SavedSpec, dense: nn.Module) -> SlimmableModel:
    """Read what `write_configurations` wrote.

    Args:
        path: The folder.
        saved: Its spec.
        dense: The network with its weights loaded, which are those of the spec.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
    """
    file = path / CONFIGURATIONS
    content = read_object(file)
    try:
        found = _File.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        raise CheckpointError(f"{file}: {first_reason(error)}") from error
    if saved.format == FORMAT:
        require_unchanged(file, content)
    try:
        for name, own, noted in (
            (WEIGHTS, saved.weights, found.weights),
            (PRIVATE, digest(path / PRIVATE), found.own),
        ):
            if own != noted:
                raise CheckpointError(f"{path / name} is not the file that {file} was written with")
        joined = load_file(path / PRIVATE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path / PRIVATE} cannot be read: {error}") from error
    try:
        return _model(found, joined, saved, dense)
    except (JoslimError, LookupError, AttributeError) as error:
        reason = error if isinstance(error, JoslimError) else f"there is no {error}"
        raise CheckpointError(f"{file}: {reason}") from error


def _model(
    found: _File, joined: Mapping[str, Tensor], saved: SavedSpec, dense: nn.Module
) -> SlimmableModel:
    state = dense.state_dict()
    slices = Slices(
        found.groups,
        {name: _axes_from_json(axes) for name, axes in found.tensors.items()},
        {
            (key.rpartition(".")[0], key.rpartition(".")[2]): _axes_from_json(axes)
            for key, axes in found.attributes.items()
        },
    )
    _check_slices(slices, state, dense)
    kinds = [{name: state[name] for name in kind} for kind in found.private]
    configurations, private = [], {}
    for row in found.configurations:
        widths = tuple(row.widths[group] for group in slices.groups)
        configuration = Configuration(row.id, widths, row.numbers)
        values = joined[row.place] if row.place else torch.empty(0)
        private[row.id] = _split(values, configuration, slices, kinds[row.private])
        for needed in ("macs", "val_top1"):
            row.numbers[needed]
        configurations.append(configuration)
    spec = saved.spec
    shape = (spec.in_channels, spec.image_size, spec.image_size)
    return SlimmableModel(dense, slices, configurations, private, found.full, shape)


def _check_slices(slices: Slices, state: Mapping[str, Tensor], dense: nn.Module) -> None:
    """Whether the axes are those of the network's tensors and attributes."""
    sizes: dict[str, tuple[tuple[Axis, ...], Any]] = {
        name: (axes, tuple(state[name].shape)) for name, axes in slices.tensors.items()
    }
    for (path, name), axes in slices.attributes.items():
        value = vars(dense.get_submodule(path))[name]
        values = tuple(value) if isinstance(value, tuple | list) else (value,)
        sizes[f"{path}.{name}"] = axes, values
    for name, (axes, expected) in sizes.items():
        parts = [part for axis in axes for part in axis]
        fits = all(
            part.group is None or (part.group < len(slices.groups) and not part.full % part.block)
            for part in parts
        )
        if not fits or tuple(sum(part.full for part in axis) for axis in axes) != expected:
            raise CheckpointError(f"the slices of '{name}' are of another network")


def _places(joined: Mapping[str, Tensor]) -> dict[str, str]:
    """For each id the first one with the same content, so that it is stored once."""
    first: dict[bytes, str] = {}
    contents = {i: tensors.view(torch.uint8).numpy().tobytes() for i, tensors in joined.items()}
    return {i: first.setdefault(content, i) for i, content in contents.items()}


def _split(
    joined: Tensor, configuration: Configuration, slices: Slices, own: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """A configuration's own tensors by name, which are saved one after the other.

    Args:
        joined: All of them.
        configuration: Whose they are.
        slices: Which parts of the full network's tensors belong to it.
        own: The full network's tensors of those names.

    Raises:
        CheckpointError: If the network cannot have these widths, or the tensors are of others, or
            no numbers.
    """
    widths = configuration.widths
    shapes = [slices.shape(name, tensor, widths) for name, tensor in own.items()]
    sizes = [math.prod(shape) for shape in shapes]
    fits = all(1 <= width <= most for width, most in zip(widths, slices.full, strict=True))
    if not fits or sum(sizes) != len(joined):
        raise CheckpointError(
            f"the network cannot have the widths of configuration '{configuration.id}', or its "
            f"{PRIVATE} are of others"
        )
    if any(tensor.dtype != joined.dtype for tensor in own.values()) or not joined.isfinite().all():
        raise CheckpointError(
            f"the {PRIVATE} of configuration '{configuration.id}' are of another type than the "
            "network's, or not finite"
        )
    parts = zip(own, joined.split(sizes), shapes, strict=True)
    return {name: part.view(shape) for name, part, shape in parts}


def _axes_to_json(axes: tuple[Axis, ...]) -> list[Any]:
    """A number for a dimension of fixed size, else ``[group, block, full]`` for each part."""
    return [
        axis[0].full
        if len(axis) == 1 and axis[0].group is None
        else [[part.group, part.block, part.full] for part in axis]
        for axis in axes
    ]


def _axes_from_json(axes: list[Any]) -> tuple[Axis, ...]:
    return tuple(
        (Part(None, axis, axis),) if isinstance(axis, int) else tuple(Part(*part) for part in axis)
        for axis in axes
    )
