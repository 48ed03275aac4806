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
            "./stage prepare data/prepared was killed; often the machine has run out of memory. "
            "The next run goes on where this one stopped",
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


def test_an_error_is_held_back_until_the_stage_goes_on(project: Project) -> None:
    project.behave("prepare", "echo 'OSError: no room, tried again' >&2; sleep 0.5; echo done")
    _, lines, _ = reproduce("prepare")
    assert lines[1:] == ["OSError: no room, tried again", "done"]

    told: list[str] = []
    traceback = "Traceback (most recent call last):\n  File x"
    project.behave("train", f"echo 'note\n{traceback}\nValueError: torn' >&2; exit 1")
    with pytest.raises(dvc.StageError, match=r"^ValueError: torn$"):
        asyncio.run(dvc.reproduce("train", {}, told.append, print))
    assert told[1:] == ["note", *traceback.splitlines()], "the error itself is told by the caller"


def test_a_stage_waits_for_another_dvc_that_is_at_work_on_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who came first wins; the other says so, and both end well."""
    monkeypatch.setattr(dvc, "BUSY_SECONDS", 0.2)
    project.behave("prepare", "while test ! -e go_on; do sleep 0.1; done")
    first = subprocess.Popen([sys.executable, "-m", "dvc", "repro", "prepare"])
    wait_for_process("sleep 0.1", first.pid)
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        (project.root / "go_on").touch()

    assert asyncio.run(dvc.reproduce("prepare", {}, on_line, print)) == "unchanged"
    assert first.wait() == 0
    (line,) = lines
    assert line == f"waiting for another DVC, process {first.pid}: dvc repro prepare"
    assert project.ran().count("prepare start") == 1


def test_reason_is_dvcs_own_where_the_stage_did_not_start(project: Project) -> None:
    with pytest.raises(dvc.StageError, match=r"No such file or directory: .*data/prepared"):
        reproduce("train")
