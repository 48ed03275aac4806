"""The user's own code that networks may be built from: what ``params.yaml`` names, nothing else."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from joslim.errors import ConfigError
from pipelines.settings import paths


def own_code(path: Path | None = None) -> tuple[str, ...]:
    """``allow`` for the library's loaders: ``network.name`` and ``network.leaves``.

    Args:
        path: The settings; None for the checkout's. Without such a file nothing is allowed.

    Raises:
        ConfigError: If it cannot be read.
    """
    path = path or paths.root() / paths.PARAMS
    try:
        content = yaml.safe_load(path.read_text()) if path.is_file() else None
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    network = content.get("network") if isinstance(content, Mapping) else None
    if not isinstance(network, Mapping):
        return ()
    return named(str(network.get("name")), network.get("leaves") or ())


def named(network: str, leaves: Iterable[object]) -> tuple[str, ...]:
    """Those of the names that are code: ``package.module:name``."""
    return tuple(name for name in (network, *map(str, leaves)) if ":" in name)
