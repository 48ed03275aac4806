"""A slimmable network on disk: all weights once, for every width configuration.

A folder holds what `joslim.supernet.storage` writes of a supernet, ``weights.safetensors`` and
``spec.json``, and beside it ``configurations.json`` (the width configurations with their numbers,
and which parts of the tensors belong to them) and ``statistics.safetensors`` (batch norm's, for
each configuration).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from joslim.errors import CheckpointError, TracingError
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.slimmable_model import Configuration, Slices, SlimmableModel
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import (
    BESIDE_SLIMMABLE,
    WEIGHTS,
    digest,
    load_subnetwork,
    read_spec,
    save_supernet,
)
from joslim.tracing import Axis, Part, axis_size

CONFIGURATIONS, STATISTICS = BESIDE_SLIMMABLE

SLIMMABLE = "slimmable"
"""Kind of the folder in its spec."""

TOLERANCE = 1e-4
"""Largest difference of a slice's outputs from its extracted network's, to their largest one."""


def save_slimmable(
    path: Path,
    network: SlimmableNetwork,
    spec: NetworkSpec,
    configurations: Iterable[tuple[Configuration, nn.Module]],
    full: Mapping[str, float],
) -> None:
    """Save a trained supernet for use at run time; `joslim.load` gives a `SlimmableModel`.

    Args:
        path: Folder to write to.
        network: The supernet with its final weights.
        spec: Its spec.
        configurations: Width configurations, each with its extracted network, whose batch norm has
            been recalibrated. Only its statistics are kept, as the weights are slices.
        full: The full network's costs by column, for budgets in percent.

    Raises:
        CheckpointError: If two configurations have one id.
        TracingError: If slices give other outputs than the extracted networks: some module keeps
            others where they cannot be found, or changes itself as it runs.
    """
    found = list(configurations)
    statistics = {c.id: _statistics(dense) for c, dense in found}
    if len(statistics) < len(found):
        raise CheckpointError("two configurations have the same id; expected one for each")
    trace = network.trace
    groups = [group.name for group in network.space.groups]
    slices = Slices(tuple(groups), trace.tensors, trace.attributes)
    shape = (spec.in_channels, spec.image_size, spec.image_size)
    stored = network.extract(network.space.full)
    model = SlimmableModel(stored, slices, [c for c, _ in found], statistics, full, shape)
    for configuration, dense in found:
        _check(model, configuration, dense)
    save_supernet(path, network, spec, kind=SLIMMABLE)
    joined = {i: torch.cat([b.cpu() for b in own.values()]) for i, own in statistics.items() if own}
    save_file(joined, path / STATISTICS)
    rows = [
        {
            "id": c.id,
            "widths": dict(zip(groups, c.widths, strict=True)),
            "numbers": dict(c.numbers),
        }
        for c, _ in found
    ]
    content = {
        WEIGHTS: digest(path / WEIGHTS),
        STATISTICS: digest(path / STATISTICS),
        "full": dict(full),
        "groups": groups,
        "configurations": rows,
        "tensors": {name: _axes_to_json(axes) for name, axes in trace.tensors.items()},
        "attributes": {
            ".".join(key): _axes_to_json(axes) for key, axes in trace.attributes.items()
        },
    }
    (path / CONFIGURATIONS).write_text(json.dumps(content) + "\n")


@torch.no_grad()
def _check(model: SlimmableModel, configuration: Configuration, dense: nn.Module) -> None:
    device = next(dense.parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, *model.input_shape, generator=generator).to(device)
    was_training = dense.training
    expected = dense.eval()(images)
    dense.train(was_training)
    found = model.at(configuration.id).to(device)(images)
    if not (found - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise TracingError(
            f"configuration '{configuration.id}' gives other outputs from slices than its "
            "extracted network; a network that refers to its modules outside of them, or changes "
            "itself as it runs, can be saved as sub-networks only"
        )


def is_slimmable(path: Path) -> bool:
    """Whether a folder holds a slimmable network, and not a single sub-network.

    Raises:
        CheckpointError: If its spec cannot be read.
    """
    return read_spec(path).get("provenance", {}).get("kind") == SLIMMABLE


def load_slimmable(path: Path, model: nn.Module | None = None) -> SlimmableModel:
    """Load what `save_slimmable` saved; nothing is traced.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; its weights are replaced.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
    """
    loaded = load_subnetwork(path, model)
    spec = loaded.spec
    try:
        content = json.loads((path / CONFIGURATIONS).read_text())
        # That the weights are those of the spec was seen when they were loaded.
        found = {WEIGHTS: read_spec(path)[WEIGHTS], STATISTICS: digest(path / STATISTICS)}
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
        joined = load_file(path / STATISTICS)
        statistics = {
            c.id: _split(joined.get(c.id, torch.empty(0)), c, slices, loaded.model)
            for c in configurations
        }
        return SlimmableModel(
            loaded.model,
            slices,
            configurations,
            statistics,
            content["full"],
            (spec.in_channels, spec.image_size, spec.image_size),
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path / CONFIGURATIONS} or {STATISTICS} beside it cannot be read: {error!r}"
        ) from error


def _statistics(dense: nn.Module) -> dict[str, Tensor]:
    """The running statistics of each batch norm, by name."""
    return {
        f"{path}.{leaf}" if path else leaf: buffer
        for path, module in dense.named_modules()
        if isinstance(module, _BatchNorm)
        for leaf, buffer in module.named_buffers()
        if buffer.is_floating_point()
    }


def _split(
    joined: Tensor, configuration: Configuration, slices: Slices, dense: nn.Module
) -> dict[str, Tensor]:
    """The statistics of a configuration by name, which are saved one after the other.

    Raises:
        CheckpointError: If the network cannot have these widths, or statistics are of others.
    """
    full = {
        part.group: part.full // part.block
        for axes in slices.tensors.values()
        for axis in axes
        for part in axis
        if part.group is not None
    }
    widths = configuration.widths
    sizes = {
        name: axis_size(slices.tensors[name][0], widths) if name in slices.tensors else len(buffer)
        for name, buffer in _statistics(dense).items()
    }
    fits = all(1 <= width <= full.get(g, width) for g, width in enumerate(widths))
    if not fits or sum(sizes.values()) != len(joined):
        raise CheckpointError(
            f"the network cannot have the widths of configuration '{configuration.id}', or its "
            f"{STATISTICS} are of others"
        )
    return dict(zip(sizes, joined.split(list(sizes.values())), strict=True))


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
