"""Stage ``inputs``: note the state of what is the user's own, so that DVC sees it change."""

import hashlib
import importlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from joslim import data
from joslim.data.listing import Kind
from pipelines.settings import paths
from pipelines.settings.loading import load_params
from pipelines.settings.params import Params
from pipelines.terminal.command import run_command

_THIS_PROJECT = ("joslim", "pipelines", "benchmarks", "tests")


def main() -> None:
    params = load_params()
    paths.INPUTS.mkdir(parents=True, exist_ok=True)
    noted = {"images": images(params), "network": network(params), "profiles": profiles()}
    for name, content in noted.items():
        (paths.INPUTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def images(params: Params) -> dict[str, Any]:
    """What is under ``data.path``: how much, and a digest of names, sizes and times of change."""
    digest, count = hashlib.sha256(str(params.data.path).encode(errors="surrogateescape")), 0
    for entry in data.list_files(params.data.path) if params.data.path else ():
        told = f"{entry.name}\0{entry.kind.name}\0{entry.size}\0{entry.changed}\n"
        digest.update(told.encode(errors="surrogateescape"))
        count += entry.kind is Kind.FILE
    return {"files": count, "digest": digest.hexdigest()}


def network(params: Params) -> dict[str, Any]:
    """Digests of what decides training, by path: own code, weights, the objective's profile."""
    files = _own_code(params.network.name)
    weights = Path(params.network.weights or os.devnull)
    files |= {weights} if weights.is_file() else set()
    _, _, device = params.search.objective.partition("@")
    files |= {paths.PROFILES / f"{device}.json"} if device else set()
    return _digests(files)


def profiles() -> dict[str, str]:
    """Digests of all profiles of devices, by path."""
    return _digests(paths.PROFILES.glob("*.json"))


def _digests(files: Iterable[Path]) -> dict[str, str]:
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def _own_code(name: str) -> set[Path]:
    """The factory's module, and all modules of this checkout that importing it has loaded."""
    module, colon, _ = name.partition(":")
    if not colon or module in ("torchvision", "timm"):
        return set()
    importlib.import_module(module)
    here = Path.cwd()
    found = set()
    for loaded, content in list(sys.modules.items()):
        file = Path(getattr(content, "__dict__", {}).get("__file__") or os.devnull).resolve()
        is_own = file.is_relative_to(here) and file.is_file() and "site-packages" not in file.parts
        if loaded == module or (is_own and loaded.partition(".")[0] not in _THIS_PROJECT):
            found.add(file)
    return {file.relative_to(here) if file.is_relative_to(here) else file for file in found}


if __name__ == "__main__":
    run_command(main)
