"""Dependencies run one way: no room imports from one above it, and none imports itself around."""

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

from checkout import SOURCE

PACKAGES = ("joslim", "pipelines", "benchmarks")

FLOORS = (
    {"benchmarks"},
    {
        "pipelines.flow",
        "pipelines.stages",
        "pipelines.tune",
        "pipelines.cli",
        "pipelines.check",
        "pipelines.entry",
    },
    {"pipelines.building", "pipelines.registry"},
    {"pipelines.artifacts", "pipelines.pictures"},
    {"pipelines.terminal", "pipelines.tracking"},
    {"pipelines.settings"},
    {"joslim.front", "joslim.finetuning", "joslim.shipping"},
    {"joslim.training", "joslim.config"},
    {"joslim.search"},
    {"joslim.costs"},
    {"joslim.supernet"},
    {"joslim.tracing"},
    {"joslim.networks", "joslim.data", "joslim.distributed", "joslim.widths"},
    {
        "joslim.machine",
        "joslim.evaluation",
        "joslim.pareto",
        "joslim.budgets",
        "joslim.certainty",
        "joslim.colours",
        "joslim.errors",
        "joslim.modes",
        "joslim.twins",
    },
)
"""The rooms from the top down, as in docs/architecture.md; a room may use those below it, and
others of its floor."""

PIPELINE_ONLY = {
    "dvc", "fastapi", "filelock", "hyperopt", "jinja2", "markupsafe", "matplotlib", "mlflow",
    "pandas", "prefect", "psutil", "rich", "sqlalchemy", "typer", "yaml",
}  # fmt: skip


def modules() -> dict[str, Path]:
    """All modules of the project, packages' faces too."""
    found = {}
    for package in PACKAGES:
        for file in (SOURCE / package).rglob("*.py"):
            name = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = file
    return found


MODULES = modules()


def imported(module: str) -> Iterator[str]:
    """What ``module`` imports, wherever in it; modules of this project as those taken from."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module


def room_of(module: str) -> str:
    return module if module in PACKAGES else ".".join(module.split(".")[:2])


def floor_of(module: str) -> int | None:
    rooms = {module.split(".")[0], room_of(module)}
    return next((i for i, floor in enumerate(FLOORS) if rooms & floor), None)


def test_every_room_has_its_floor() -> None:
    placed = [name for name in MODULES if name not in ("joslim", "pipelines")]
    assert [name for name in placed if floor_of(name) is None] == []


def test_no_room_imports_from_a_room_above() -> None:
    upward = [
        (module, name)
        for module in MODULES
        for name in imported(module)
        if name in MODULES and None not in (floors := (floor_of(module), floor_of(name)))
        if floors[0] > floors[1]  # type: ignore[operator]
    ]
    assert upward == []


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {
        module: {name for name in imported(module) if name in MODULES and name not in PACKAGES}
        for module in MODULES
        if module not in PACKAGES
    }
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError, naming the circle
    assert len(order) >= len(graph)


def test_the_rooms_themselves_form_no_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if module in PACKAGES:
            continue
        used = {room_of(name) for name in imported(module) if name in MODULES}
        graph.setdefault(room_of(module), set()).update(used - {room_of(module), *PACKAGES})
    order = list(TopologicalSorter(graph).static_order())
    assert {room for floor in FLOORS[1:] for room in floor} <= set(order)


def test_the_library_imports_nothing_of_the_pipeline() -> None:
    foreign = {
        (module, name)
        for module in MODULES
        if module.startswith("joslim")
        for name in imported(module)
        if name.split(".")[0] in PIPELINE_ONLY | {"pipelines", "benchmarks"}
    }
    assert {name.split(".")[0] for _, name in foreign} <= {"hyperopt"}
    assert {module for module, _ in foreign} <= {"joslim.search.tpe"}


def test_no_string_of_the_library_speaks_of_the_pipeline() -> None:
    foreign = re.compile(
        r"params\.yaml|\bstages? ``|\bcheckout|\bdvc\b|mlflow|prefect|pipelines", re.I
    )
    keys = re.compile(r"\b(data|network|search|training|execution|front|finetune)\.[a-z_]+ is\b")
    found = [
        (module, node.value)
        for module, file in MODULES.items()
        if module.startswith("joslim")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if foreign.search(node.value) or keys.search(node.value)
    ]
    assert found == []


def test_stages_do_not_import_stages() -> None:
    for module in MODULES:
        if module.startswith("pipelines.stages."):
            assert not [name for name in imported(module) if name.startswith("pipelines.stages")]


def test_no_file_is_too_long_to_be_read_at_once() -> None:
    lengths = {name: len(file.read_text().splitlines()) for name, file in MODULES.items()}
    assert {name: length for name, length in lengths.items() if length > 300} == {}


def test_the_docs_show_the_same_floors() -> None:
    text = (SOURCE / "docs/architecture.md").read_text()
    rooms = [sorted(floor) for floor in FLOORS[1:]]
    places = [[text.index(f"`{room.replace('.', '/')}") for room in floor] for floor in rooms]
    assert all(max(upper) < min(lower) for upper, lower in pairwise(places))
