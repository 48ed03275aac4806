import asyncio
import os
import shutil
import signal
import subprocess
import sys

import psutil
import pytest
from script_project import ROOT, Project, wait_for_process

from pipelines.flow import dvc
from pipelines.terminal.progress import Progress


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_stage_does_not_outlive_its_caller(project: Project, ending: signal.Signals) -> None:
    project.behave("prepare", "trap '' TERM; sleep 1001")
    script = (
        "import asyncio; from pipelines.flow import dvc;"
        "asyncio.run(dvc.reproduce('prepare', {}, print, print))"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    family = wait_for_process("sleep 1001", caller.pid)
    caller.send_signal(ending)
    assert caller.wait(10) == -ending
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def reproduce(stage: str) -> tuple[dvc.Outcome, list[str], list[Progress]]:
    lines: list[str] = []
    positions: list[Progress] = []
    outcome = asyncio.run(dvc.reproduce(stage, {"MARK": "42"}, lines.append, positions.append))
    return outcome, lines, positions


def test_lines_and_progress_of_a_stage_are_told_apart(project: Project) -> None:
    progress = Progress("training", 3, 9, 6.5, "loss 0.1")
    project.behave(
        "prepare", f"echo '{progress.encode()}'; echo \"mark $MARK\"; test -t 1 && echo 1"
    )
    first = ["> ./stage prepare data/prepared", "mark 42"]
    assert reproduce("prepare") == ("ran", first, [progress])
    assert reproduce("prepare") == ("unchanged", [], [])
    shutil.rmtree("data")
    assert reproduce("prepare") == ("restored", [], []), "DVC has it in its cache"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'ValueError: first' >&2; echo 'JoslimError: a\n  b' >&2", "JoslimError: a\n  b"),
        ("echo note >&2", "note\nfailed to run: ./stage prepare data/prepared, exited with 1"),
        (
            "kill -9 $$",
            "./stage prepare data/prepared was killed; often the machine has run out of memory",
        ),
    ],
)
@pytest.mark.parametrize("shell", ["/bin/sh", "/bin/bash"])
def test_reason_of_a_failure(
    project: Project, script: str, expected: str, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)
    project.behave("prepare", f"{script}; exit 1")
    with pytest.raises(dvc.StageError) as caught:
        reproduce("prepare")
    assert str(caught.value) == expected


def test_reason_is_dvcs_own_where_the_stage_did_not_start(project: Project) -> None:
    with pytest.raises(dvc.StageError, match=r"No such file or directory: .*data/prepared"):
        reproduce("train")
