"""A slimmable network on disk: all weights once, for every width configuration.

A folder holds what `joslim.supernet.storage` writes of a supernet, ``weights.safetensors`` and
``spec.json``, and beside it ``configurations.json`` (the width configurations with their numbers,
and which parts of the tensors belong to them) and ``private.safetensors`` (what each configuration
has of its own: batch norm's statistics, and parameters that were fine-tuned for it).
"""

import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import nn

from joslim.errors import TracingError
from joslim.modes import in_mode
from joslim.supernet.configurations import read_configurations, write_configurations
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.private import statistics
from joslim.supernet.saved_spec import SPEC, WEIGHTS, SavedSpec, read_spec
from joslim.supernet.slimmable_model import Configuration, Slices, SlimmableModel
from joslim.supernet.spec import NetworkSpec
from joslim.supernet.storage import BESIDE_SLIMMABLE, read_subnetwork, save_supernet
from joslim.supernet.subnetwork import Subnetwork

CONFIGURATIONS, PRIVATE = BESIDE_SLIMMABLE

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
        WidthError: If two configurations have one id.
        TracingError: If slices give other outputs than the extracted networks: some module keeps
            others where they cannot be found, or changes itself as it runs.
    """
    model = slimmable_model(network, spec, configurations, full)
    save_supernet(path, network, spec, kind=SLIMMABLE)
    write_configurations(path, model)


def slimmable_model(
    network: SlimmableNetwork,
    spec: NetworkSpec,
    configurations: Iterable[tuple[Configuration, nn.Module]],
    full: Mapping[str, float],
) -> SlimmableModel:
    """What `joslim.load` gives after `save_slimmable`; arguments and errors are the same."""
    found = list(configurations)
    private = {c.id: statistics(dense) for c, dense in found}
    trace = network.trace
    groups = tuple(group.name for group in network.space.groups)
    slices = Slices(groups, trace.tensors, trace.attributes)
    shape = (spec.in_channels, spec.image_size, spec.image_size)
    stored = network.extract(network.space.full)
    model = SlimmableModel(stored, slices, [c for c, _ in found], private, full, shape)
    for configuration, dense in found:
        _check(model, configuration, dense)
    return model


def save_extended(path: Path, source: Path, model: SlimmableModel) -> None:
    """Save a network that was loaded from ``source`` and extended, without touching its weights.

    Args:
        path: Folder to write to.
        source: Folder of the same weights.
        model: With all configurations that ``path`` shall hold.
    """
    path.mkdir(parents=True, exist_ok=True)
    for name in (WEIGHTS, SPEC):
        shutil.copyfile(source / name, path / name)
    write_configurations(path, model)


@torch.no_grad()
def _check(model: SlimmableModel, configuration: Configuration, dense: nn.Module) -> None:
    device = next(dense.parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, *model.input_shape, generator=generator).to(device)
    with in_mode(dense, training=False):
        expected = dense(images)
    found = model.at(configuration.id).to(device)(images)
    if not (found - expected).abs().max() <= TOLERANCE * expected.abs().max():
        raise TracingError(
            f"configuration '{configuration.id}' gives other outputs from slices than its "
            "extracted network; a network that refers to its modules outside of them, or changes "
            "itself as it runs, can be saved as sub-networks only"
        )


def is_slimmable(saved: SavedSpec) -> bool:
    """Whether a folder with this spec holds a slimmable network, and not a single sub-network."""
    return saved.provenance.get("kind") == SLIMMABLE


def load_slimmable(
    path: Path, model: nn.Module | None = None, *, allow: Collection[str] = ()
) -> SlimmableModel:
    """Load what `save_slimmable` saved; nothing is traced.

    Args:
        path: Its folder.
        model: The stock module, where its spec names none; its weights are replaced.
        allow: Own code that its spec may name, as `joslim.load` takes it.

    Raises:
        CheckpointError: If a file is missing or damaged, or the files do not belong together.
        NetworkError: If it cannot be built, or names code that is not allowed.
    """
    return read_slimmable(path, read_spec(path), model, allow)


def read_slimmable(
    path: Path, saved: SavedSpec, model: nn.Module | None, allow: Collection[str]
) -> SlimmableModel:
    """What `load_slimmable` loads from a folder whose spec is read already."""
    return read_configurations(path, saved, read_subnetwork(path, saved, model, allow).model)


def extract_subnetwork(
    path: Path,
    wanted: str | Sequence[int],
    model: nn.Module | None = None,
    *,
    allow: Collection[str] = (),
) -> Subnetwork:
    """A configuration of a saved slimmable network as a dense one, to be trained on and saved.

    Args:
        path: Folder of the slimmable network.
        wanted: A budget, an id or widths, as `SlimmableModel.at` takes them.
        model: The stock module, where its spec names none.
        allow: Own code that its spec may name, as `joslim.load` takes it.

    Raises:
        CheckpointError: If the folder cannot be read.
        NetworkError: If the network cannot be built, or is code that is not allowed.
        BudgetError: If no configuration is within the budget.
        WidthError: If there is no such configuration.
    """
    saved = read_spec(path)
    slimmable = read_slimmable(path, saved, model, allow)
    configuration, slices = slimmable.configuration(wanted), slimmable.slices
    widths = configuration.widths
    attributes = slices.attributes_at(widths, slimmable.dense)
    return Subnetwork(
        slimmable.extract(wanted),
        saved.spec,
        dict(zip(slices.groups, widths, strict=True)),
        {".".join(key): value for key, value in attributes.items()},
        saved.architecture,
        {"kind": "subnetwork", "id": configuration.id},
    )
