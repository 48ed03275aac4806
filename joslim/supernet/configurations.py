"""The width configurations of a slimmable network on disk, beside its weights and spec."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from joslim.errors import CheckpointError
from joslim.supernet.slimmable_model import Configuration, Slices, SlimmableModel
from joslim.supernet.storage import BESIDE_SLIMMABLE, WEIGHTS, digest, read_spec
from joslim.tracing import Axis, Part

CONFIGURATIONS, PRIVATE = BESIDE_SLIMMABLE


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
    (path / CONFIGURATIONS).write_text(json.dumps(content, separators=(",", ":")) + "\n")


def read_configurations(
    path: Path, dense: nn.Module, input_shape: tuple[int, int, int]
) -> SlimmableModel:
    """Read what `write_configurations` wrote, for the network ``dense`` with its weights loaded.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
    """
    try:
        content = json.loads((path / CONFIGURATIONS).read_text())
        # That the weights are those of the spec was seen when they were loaded.
        found = {WEIGHTS: read_spec(path)[WEIGHTS], PRIVATE: digest(path / PRIVATE)}
        for name, own in found.items():
            if own != content[name]:
                raise CheckpointError(
                    f"{path / name} is not the file that {path / CONFIGURATIONS} was written with"
                )
        slices = Slices(
            tuple(content["groups"]),
            {name: _axes_from_json(axes) for name, axes in content["tensors"].items()},
            {
                (key.rpartition(".")[0], key.rpartition(".")[2]): _axes_from_json(axes)
                for key, axes in content["attributes"].items()
            },
        )
        configurations = [
            Configuration(
                row["id"],
                tuple(row["widths"][group] for group in slices.groups),
                row["numbers"],
            )
            for row in content["configurations"]
        ]
        joined = load_file(path / PRIVATE)
        state = dense.state_dict()
        kinds = [{name: state[name] for name in kind} for kind in content["private"]]
        private = {
            c.id: _split(
                joined[row["place"]] if row["place"] else torch.empty(0),
                c,
                slices,
                kinds[row["private"]],
            )
            for c, row in zip(configurations, content["configurations"], strict=True)
        }
        return SlimmableModel(
            dense,
            slices,
            configurations,
            private,
            content["full"],
            input_shape,
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path / CONFIGURATIONS} or {PRIVATE} beside it cannot be read: {error!r}"
        ) from error


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
        CheckpointError: If the network cannot have these widths, or the tensors are of others.
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
