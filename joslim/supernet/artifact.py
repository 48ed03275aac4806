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

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from joslim.errors import CheckpointError
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.slimmable_model import Configuration, Slices, SlimmableModel
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import load_subnetwork, save_supernet
from joslim.tracing import Axis, Part

CONFIGURATIONS, STATISTICS = "configurations.json", "statistics.safetensors"


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
    """
    save_supernet(path, network, spec)
    rows, statistics = [], {}
    for configuration, dense in configurations:
        widths = dict(zip(_groups(network), configuration.widths, strict=True))
        numbers = dict(configuration.numbers)
        rows.append({"id": configuration.id, "widths": widths, "numbers": numbers})
        for name, buffer in _statistics(dense).items():
            statistics[f"{configuration.id}:{name}"] = buffer.cpu().contiguous()
    save_file(statistics, path / STATISTICS)
    trace, groups = network.trace, _groups(network)
    content = {
        "full": dict(full),
        "groups": groups,
        "configurations": rows,
        "tensors": {name: _axes_to_json(axes) for name, axes in trace.tensors.items()},
        "attributes": {
            ".".join(key): _axes_to_json(axes) for key, axes in trace.attributes.items()
        },
    }
    (path / CONFIGURATIONS).write_text(json.dumps(content) + "\n")


def is_slimmable(path: Path) -> bool:
    """Whether a folder holds a slimmable network, and not a single sub-network."""
    return (path / CONFIGURATIONS).exists()


def load_slimmable(path: Path, model: nn.Module | None = None) -> SlimmableModel:
    """Load what `save_slimmable` saved; nothing is traced.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; its weights are replaced.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
    """
    dense = load_subnetwork(path, model).model
    try:
        content = json.loads((path / CONFIGURATIONS).read_text())
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
        return SlimmableModel(
            dense, slices, configurations, _load_statistics(path), content["full"]
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path / CONFIGURATIONS} or {STATISTICS} beside it cannot be read: {error!r}"
        ) from error


def _groups(network: SlimmableNetwork) -> list[str]:
    return [group.name for group in network.space.groups]


def _statistics(dense: nn.Module) -> dict[str, Tensor]:
    """The running statistics of each batch norm, by name."""
    return {
        f"{path}.{leaf}" if path else leaf: buffer
        for path, module in dense.named_modules()
        if isinstance(module, _BatchNorm)
        for leaf, buffer in module.named_buffers()
        if buffer.is_floating_point()
    }


def _load_statistics(path: Path) -> dict[str, dict[str, Tensor]]:
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(path / STATISTICS).items():
        identity, _, name = key.partition(":")
        found.setdefault(identity, {})[name] = tensor
    return found


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
