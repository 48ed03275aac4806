"""The library where nothing of the pipeline is installed; hidden modules stand in for that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from checkout import SOURCE
from generated_data import write_fashion_mnist
from test_architecture import PIPELINE_ONLY

from pipelines.entry import PACKAGES

BLOCK = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        blocked = name.partition(".")[0] in BLOCKED
        return None if blocked else self.finder.find_spec(name, path, target)

BLOCKED = set(sys.argv.pop(1).split(","))
sys.meta_path[:] = map(Without, sys.meta_path)
"""
# PyTorch itself takes a lock on files.
BLOCKED = PIPELINE_ONLY - {"filelock"}


def run_blocked(program: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BLOCK + program, ",".join(sorted(BLOCKED))]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_the_example_goes_from_an_own_module_to_a_front_and_back_from_disk(tmp_path: Path) -> None:
    images = write_fashion_mnist(tmp_path / "images", train=1600)
    example = SOURCE / "examples" / "train_and_slice.py"
    program = f"import runpy; runpy.run_path({str(example)!r}, run_name='__main__')"
    done = run_blocked(program, images, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    *_, last = done.stdout.splitlines()
    assert last.startswith("saved in the folder 'half' and loaded again: ")
    assert done.stdout.count("of the MACs") >= 2
    assert (tmp_path / "half" / "weights.safetensors").exists()


def test_every_module_of_the_library_can_be_imported(tmp_path: Path) -> None:
    names = [
        ".".join(file.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")
        for file in sorted((SOURCE / "joslim").rglob("*.py"))
    ]
    program = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    done = run_blocked(program, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_strategy_that_needs_hyperopt_says_so(tmp_path: Path) -> None:
    program = """
import torch, joslim
network = joslim.slimmable(joslim.networks.create("resnet8", 10), torch.zeros(1, 3, 32, 32))
macs = joslim.costs.macs(network)
joslim.search.create("tpe", space=network.space, cost=macs, seed=0)
"""
    done = run_blocked(program, cwd=tmp_path)
    assert (
        "ConfigError: strategy is 'tpe', which needs Hyperopt: pip install hyperopt" in done.stderr
    )


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("pipelines.entry", "joslim"),
        ("pipelines.flow", "python -m pipelines.flow"),
        ("pipelines.tune", "python -m pipelines.tune"),
    ],
)
def test_a_command_says_in_one_line_what_to_install(
    module: str, command: str, tmp_path: Path
) -> None:
    program = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    done = run_blocked(program, cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{command} needs dvc, hyperopt, ")
    assert "run: pip install 'joslim[pipeline]'" in line


@pytest.mark.parametrize("package", PACKAGES)
def test_what_the_command_looks_for_is_of_the_pipeline(package: str) -> None:
    assert package in PIPELINE_ONLY
