"""Which code decides a stage's results, by its imports; prints the lists for ``dvc.yaml``."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

NO_RESULTS = {
    "joslim/errors.py", "pipelines/settings", "pipelines/terminal", "pipelines/tracking",
}  # fmt: skip
"""Decide no result: DVC watches the settings themselves, and the rest only tells of a stage."""

NOT_IMPORTED = {"report": {"pipelines/templates"}}
"""What decides results and is no code."""


SPLIT = {"artifacts", "stages"}
"""Folders of which each stage uses single files."""


def watched_code(stage: str) -> list[str]:
    """Folders and files of this project, sorted: the stage's own file, and rooms that it uses."""
    found, pending = set[str](), [f"pipelines.stages.{stage}"]
    seen = set[str]()
    while pending:
        module = pending.pop()
        if module in seen or (room := _room(module)) is None or room in NO_RESULTS:
            continue
        seen.add(module)
        found.add(room)
        pending += imports(module)
    return sorted(found | NOT_IMPORTED.get(stage, set()))


def imports(module: str) -> Iterator[str]:
    """The modules from which ``module`` takes something; not the packages that they are in."""
    file = file_of(module)
    assert file is not None
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if file_of(inner) else node.module


def file_of(module: str) -> Path | None:
    """The source of a module of this project."""
    path = ROOT.joinpath(*module.split("."))
    return next((f for f in (path.with_suffix(".py"), path / "__init__.py") if f.exists()), None)


def _room(module: str) -> str | None:
    """The folder or file right under ``joslim`` or ``pipelines``; of some folders, the file."""
    package, *inner = module.split(".")
    if package not in ("joslim", "pipelines") or not inner or file_of(module) is None:
        return None
    if inner[0] in SPLIT:
        return "/".join([package, *inner]) + ".py"
    room = f"{package}/{inner[0]}"
    return room if (ROOT / room).is_dir() else f"{room}.py"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(name, *watched_code(name), sep="\n      - ")
