"""A work pool of processes, by the commands of the README."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import commands
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness
from script_project import ROOT


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    with prefect_test_harness(server_startup_timeout=120):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PATH": path}


def test_a_pool_is_made_deployed_to_and_worked_for(environment: dict[str, str]) -> None:
    *first, worker = (c for c in commands(ROOT / "README.md") if c.startswith("prefect "))
    assert len(first) == 2
    for command in first:
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert worker.startswith("prefect worker start ")
    working = subprocess.Popen(
        worker.split(),
        cwd=ROOT,
        env=environment | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert working.stdout is not None
    try:
        lines = []
        while "started!" not in (line := working.stdout.readline()):
            assert line, "".join(lines)
            lines.append(line)
    finally:
        working.terminate()
        working.communicate()
