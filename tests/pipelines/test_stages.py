"""What `dvc.yaml` watches: code that decides a result, so that a change runs its stage again."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NO_RESULTS = {"device", "errors", "verification"}
SUPERNETS = {
    "attention", "calibration", "channel_order", "costs", "losses", "lowering", "pretrained",
    "slicing", "slimmable_network", "tracing", "training_config", "widths",
}  # fmt: skip
"""Of which a dense network that was extracted before needs nothing."""
UNWATCHED = {
    "train": {"checkpoint", "evaluation", "pareto"},
    "front": {"channel_order", "distributed", "local_sum", "losses", "pretrained",
              "synced_norm", "training_config"},
    "finetune": SUPERNETS,
    "evaluate": SUPERNETS | {"threads"},
}  # fmt: skip
"""Of `joslim`: what a stage imports, directly or not, without any effect on its results."""


@pytest.mark.parametrize("stage", UNWATCHED)
def test_a_stage_watches_all_code_that_decides_its_results(stage: str) -> None:
    watched = {Path(dependency) for dependency in _dependencies(stage)}
    library = {path.stem for path in watched if path.parts[0] == "joslim"}
    imported = {name.split(".")[1] for name in _imported(f"pipelines.{stage}") if "joslim." in name}
    assert library == imported - UNWATCHED[stage] - NO_RESULTS
    assert imported >= UNWATCHED[stage] | NO_RESULTS


def test_every_watched_file_exists() -> None:
    watched = {path for stage in STAGES for path in _dependencies(stage)}
    code = {path for path in watched if path.startswith(("joslim/", "pipelines/"))}
    assert code
    assert {path for path in code if not (ROOT / path).exists()} == set()


def _dependencies(stage: str) -> list[str]:
    found: list[str] = STAGES[stage].get("do", STAGES[stage])["deps"]
    return found


def _imported(start: str) -> set[str]:
    """The modules of this project that importing one leads to; packages only gather names."""
    found, pending = set(), [start]
    while pending:
        name = pending.pop()
        own = name.startswith(("joslim.", "pipelines."))
        if own and name not in found and (file := _file(name)):
            found.add(name)
            pending += _imports(file)
    return found


def _imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if _file(inner) else node.module


def _file(name: str) -> Path | None:
    path = ROOT.joinpath(*name.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)
