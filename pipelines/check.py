"""What a run by ``params.yaml`` will do, found out without starting it: ``joslim check``."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from joslim import costs
from joslim.data.cifar import CIFAR
from joslim.data.decoding import ENDINGS
from joslim.data.folder import folder_counts
from joslim.data.sources import DEBIAN_FASHION_MNIST
from joslim.errors import ConfigError
from joslim.supernet.network import SlimmableNetwork
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.settings.network import Plan, plan
from pipelines.settings.params import DataParams, Params
from pipelines.terminal.console import console


def main() -> None:
    """Check ``params.yaml`` in the working directory, and print what it asks for.

    Raises:
        ConfigError: If a run would be refused.
    """
    sys.path.insert(0, str(Path.cwd()))  # of a network of one's own, as for a stage
    params = read_params()
    found = plan(params, paths.PARAMS)
    images = _images(params.data)
    facts = Table.grid("", "", padding=(0, 3, 0, 0))
    for name, fact in _facts(params, found, images):
        facts.add_row(name, fact)
    console.print(f"{paths.PARAMS} is right. A run by it:\n", facts, "", _budgets(found))
    limits = (one.limit.quantity.name for ranges in found.budgets.values() for one in ranges)
    if "latency" in limits:
        console.print("\nlatency: by PyTorch, just now; stage front measures it anew")


def _facts(params: Params, found: Plan, images: str) -> Iterable[tuple[str, str]]:
    data, training = params.data, params.training
    kind = "grey" if data.channels == 1 else "colour"
    yield "images", images
    yield "", f"as {kind} ones of {data.image_size} × {data.image_size} pixels"
    yield "classes", f"{len(found.classes)}: {_some(found.classes)}"
    yield "network", f"{params.network.name}, {params.network.weights or 'random weights'}"
    yield "", _groups(found.network)
    yield "search", f"{params.search.strategy}, loss against {params.search.objective}"
    for limit in params.limits():
        yield "", f"always {limit}"
    yield "training", f"{training.epochs} epochs, {training.batch_size} images a step"
    if params.execution.processes > 1:
        yield "", f"in {params.execution.processes} processes"
    if params.finetune.private == "nothing":
        yield "fine-tuning", "none: budgets share all weights"
    else:
        yield "fine-tuning", f"{params.finetune.epochs:g} epochs of {params.finetune.private}"
    for profile in found.profiles:
        yield "profile", f"{profile.predicted.name}: {profile.summary}"


def _groups(network: SlimmableNetwork) -> str:
    space = network.space
    movable = f"{len(space.searchable)} of {len(space)} groups of channels"
    return f"{movable} can shrink, with {costs.movable_fraction(network):.0%} of the MACs"


def _budgets(found: Plan) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 3, 0, 0))
    for heading in ("budget", "limit"):
        table.add_column(heading, no_wrap=True)
    for heading in ("at most", "smallest", "full network"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, ranges in found.budgets.items():
        for number, one in enumerate(ranges):
            show = one.limit.quantity.format
            numbers = (one.limit.resolve(one.full), one.smallest, one.full)
            table.add_row("" if number else name, str(one.limit), *map(show, numbers))
    return table


def _images(data: DataParams) -> str:
    """Where images are and how many, as far as that can be told without reading one.

    Raises:
        ConfigError: If there are none, or none of a class.
    """
    if data.path is None:
        from_debian = DEBIAN_FASHION_MNIST.is_dir()
        return f"{data.source}, {DEBIAN_FASHION_MNIST if from_debian else 'to be downloaded'}"
    if data.source == "folder":
        counts = folder_counts(data.path)
        if missing := [name for name, count in counts.items() if not count]:
            raise ConfigError(
                f"{paths.PARAMS}: data.path: {data.path} holds no images of {_some(missing)}; "
                f"known endings: {', '.join(ENDINGS)}"
            )
        least = min(counts, key=lambda name: counts[name])
        total = sum(counts.values())
        return f"{total:,} in {data.path}, fewest of {least}: {counts[least]:,}"
    if data.source == "shards":
        count = len(list(data.path.glob("*.tar")))
        if not count:
            raise ConfigError(f"{paths.PARAMS}: data.path: {data.path} holds no shards, as *.tar")
        return f"in {count:,} shards in {data.path}"
    if data.source in CIFAR:
        version = CIFAR[data.source]
        needed = (*version.train, version.test)
        if missing := [name for name in needed if not (data.path / name).is_file()]:
            raise ConfigError(f"{paths.PARAMS}: data.path: {data.path} lacks {_some(missing)}")
    return f"{data.source} in {data.path}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
