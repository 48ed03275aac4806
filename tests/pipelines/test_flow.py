import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import TaskRun
from prefect.settings import PREFECT_API_URL
from prefect.states import State
from prefect.testing.utilities import prefect_test_harness

from pipelines.flow import dvc
from pipelines.flow.pipeline import pipeline
from pipelines.flow.terminal import Screen, plain

ROOT = Path(__file__).parents[2]
BUDGETS = ["tiny", "full"]
CHAIN = ["prepare", "train", "front"]
STAGES = [*CHAIN, *(f"{s}@{b}" for s in ("finetune", "evaluate") for b in BUDGETS)]
STAGES += ["register", "report"]

# Each stage notes that it ran, then does what the file `behaviour` holds for it, then writes.
DVC_YAML = """
stages:
  prepare:
    cmd: ./stage prepare data/prepared
    params: [seed]
    outs: [data/prepared]
  train:
    cmd: ./stage train models/supernet
    deps: [data/prepared]
    params: [training]
    outs: [models/supernet]
  front:
    cmd: ./stage front models/front
    deps: [models/supernet]
    outs: [models/front]
  finetune:
    foreach: ${budgets}
    do:
      cmd: ./stage finetune@${key} models/budgets/${key}
      deps: [models/front]
      params: ["budgets.${key}"]
      outs: ["models/budgets/${key}"]
  evaluate:
    foreach: ${budgets}
    do:
      cmd: ./stage evaluate@${key} reports/evaluated/${key}
      deps: ["models/budgets/${key}"]
      outs: ["reports/evaluated/${key}"]
  register:
    cmd: ./stage register reports/register
    always_changed: true
    deps: [models/budgets, reports/evaluated]
    params: [budgets]
    outs: [reports/register]
  report:
    cmd: ./stage report reports/index
    deps: [reports/register, reports/evaluated]
    outs: [reports/index]
"""
STAGE = """#!/bin/sh
echo "$1 start" >> ran
eval "$(cat "behaviour/$1" 2>/dev/null)"
mkdir -p "$2" && echo "$1" > "$2/made"
echo "$1 end" >> ran
"""
FRONT = """id,macs,macs_fraction,params,memory_bytes,latency_ms,val_top1
w-1,3000000,0.25,20000,300000,1.2,0.89
"""


class Project:
    """A checkout whose stages are a shell script each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for folder in (".dvc", "behaviour", "reports/front"):
            (root / folder).mkdir(parents=True)
        (root / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        (root / "dvc.yaml").write_text(DVC_YAML)
        (root / "stage").write_text(STAGE)
        (root / "stage").chmod(0o755)
        (root / "reports/front/front.csv").write_text(FRONT)
        (root / "reports/front/front.png").write_bytes(b"not looked at")
        self.write_params({name: {"macs": "100%"} for name in BUDGETS})
        top1 = {"slice": {"top1": 0.88}, "finetuned": {"top1": 0.9}, "macs": 3e6, "params": 2e4}
        versions = []
        for number, name in enumerate(BUDGETS, start=1):
            (root / "reports/evaluate" / name).mkdir(parents=True)
            (root / "reports/evaluate" / name / "metrics.json").write_text(json.dumps(top1))
            versions.append({"version": number, "aliases": [f"budget-{name}"]})
        registered = {"model": "joslim-test", "versions": versions}
        (root / "reports/registered.json").write_text(json.dumps(registered))

    def write_params(self, budgets: dict[str, dict[str, str]]) -> None:
        text = (ROOT / "params.yaml").read_text()
        head, _, rest = text.partition("budgets:")
        tail = rest[rest.index("\ntune:") :]
        (self.root / "params.yaml").write_text(f"{head}budgets: {json.dumps(budgets)}\n{tail}")

    def behave(self, stage: str, script: str) -> None:
        (self.root / "behaviour" / stage).write_text(script)

    def ran(self) -> list[str]:
        """What has run since the last question, in order."""
        path = self.root / "ran"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="module")
def prefect() -> Iterator[SyncPrefectClient]:
    with (
        prefect_test_harness(server_startup_timeout=120),
        get_client(sync_client=True) as client,
    ):
        yield client


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def run_flow() -> State:
    return asyncio.run(pipeline(return_state=True))


def task_runs(client: SyncPrefectClient, state: State) -> dict[str, TaskRun]:
    """By name, once Prefect's server has recorded how they ended."""
    flow_run = FlowRunFilter(id={"any_": [state.state_details.flow_run_id]})
    deadline = time.monotonic() + 10
    while True:
        found = client.read_task_runs(flow_run_filter=flow_run)
        if all(run.end_time for run in found) or time.monotonic() > deadline:
            return {run.name: run for run in found}
        time.sleep(0.1)


def test_stages_run_after_what_they_read_and_are_cached_the_next_time(
    prefect: SyncPrefectClient, project: Project
) -> None:
    project.behave("finetune@tiny", "sleep 2")
    project.behave("finetune@full", "sleep 2")

    state = run_flow()
    assert state.is_completed()
    runs = task_runs(prefect, state)
    assert sorted(runs) == sorted(STAGES)
    assert {run.state_name for run in runs.values()} == {"Completed"}

    ran = project.ran()
    alone = [f"{stage} {moment}" for stage in CHAIN for moment in ("start", "end")]
    assert ran[:6] == alone
    assert ran[-4:] == ["register start", "register end", "report start", "report end"]
    for budget in BUDGETS:
        assert ran.index(f"finetune@{budget} end") < ran.index(f"evaluate@{budget} start")
        start = ran.index(f"evaluate@{budget} start")
        assert ran[start + 1] == f"evaluate@{budget} end", "evaluate measures time: it runs alone"
    if (os.cpu_count() or 1) > 1:
        assert {"finetune@tiny start", "finetune@full start"} == set(ran[6:8]), "side by side"

    state = run_flow()
    assert project.ran() == ["register start", "register end"]
    runs = task_runs(prefect, state)
    assert runs.pop("register").state_name == "Completed"
    assert {run.state_name for run in runs.values()} == {"Cached"}

    project.write_params({"tiny": {"macs": "90%"}, "full": {"macs": "100%"}})
    state = run_flow()
    assert [line.split()[0] for line in project.ran()[::2]] == ["finetune@tiny", "register"]
    runs = task_runs(prefect, state)
    assert [runs[f"finetune@{budget}"].state_name for budget in BUDGETS] == ["Completed", "Cached"]

    artifacts = {artifact.key: artifact for artifact in prefect.read_artifacts()}
    assert artifacts["progress"].data == 100
    assert json.loads(artifacts["front"].data)[0]["macs"] == "3M"
    assert [row["version"] for row in json.loads(artifacts["budgets"].data)] == ["1", "2"]
    assert artifacts["front-picture"].data.startswith("![front](data:image/png;base64,")


def test_a_failed_stage_speaks_for_itself_and_stops_what_follows(
    prefect: SyncPrefectClient, project: Project
) -> None:
    error = "DataError: image 7 is torn; expected it to be whole"
    project.behave(
        "finetune@tiny", f"echo 'Traceback (most recent call last):\n  x\n{error}' >&2; exit 3"
    )

    state = run_flow()
    assert state.is_failed()
    assert state.message == f"finetune@tiny: {error}"
    runs = task_runs(prefect, state)
    assert (runs["finetune@tiny"].state_name, runs["finetune@tiny"].state.message) == (
        "Failed",
        error,
    )
    assert runs["evaluate@full"].state_name == "Completed"
    assert not {"evaluate@tiny", "register", "report"} & set(runs)


def test_bad_params_are_refused_before_anything_runs(
    prefect: SyncPrefectClient, project: Project
) -> None:
    project.write_params({"tiny": {"macs": "1%"}})
    state = run_flow()
    assert state.is_failed()
    assert "budgets.tiny is macs <= 1%" in (state.message or "")
    assert project.ran() == []


def test_a_schedule_starts_runs(prefect: SyncPrefectClient) -> None:
    """Prefect 3.8's scheduler fails with SQLAlchemy 2.1: a schedule would do nothing, silently."""
    deployment = pipeline.to_deployment("nightly", cron="0 2 * * *").apply()
    prefect.request("POST", f"/deployments/{deployment}/schedule", json={"min_runs": 1})
    of_deployment = DeploymentFilter(id={"any_": [deployment]})
    scheduled = prefect.read_flow_runs(deployment_filter=of_deployment)
    assert {run.state_name for run in scheduled} == {"Scheduled"}


def test_ctrl_c_ends_the_flow_and_all_its_processes(
    prefect: SyncPrefectClient, project: Project
) -> None:
    project.behave("train", "sleep 1000")
    flow = subprocess.Popen(
        [sys.executable, "-m", "pipelines.flow"],
        env=os.environ | {"PREFECT_API_URL": str(PREFECT_API_URL.value()), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    family = wait_for_process("sleep 1000", flow.pid)
    flow.send_signal(signal.SIGINT)
    output, _ = flow.communicate(timeout=30)
    assert flow.returncode == 128 + signal.SIGINT
    assert output.endswith("interrupted\n")
    assert not any(process.is_running() for process in family)


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


def wait_for_process(command: str, ancestor: int) -> list[psutil.Process]:
    """The descendants of a process, once one of them runs the command."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        family = psutil.Process(ancestor).children(recursive=True)
        with suppress(psutil.Error):
            if any(command == " ".join(process.cmdline()) for process in family):
                return family
        time.sleep(0.1)
    raise AssertionError(f"{command} has not started")


def reproduce(stage: str, columns: int | None = None) -> tuple[bool, list[str]]:
    lines: list[str] = []
    ran = asyncio.run(dvc.reproduce(stage, {"MARK": "42"}, lines.append, lambda _: None, columns))
    return ran, lines


def test_a_stage_draws_on_a_terminal_only_where_there_is_one(project: Project) -> None:
    project.behave("prepare", 'test -t 1 && stty size <&1; test -t 2 && echo 2; echo "mark $MARK"')
    assert reproduce("prepare", columns=66) == (
        True,
        ["> ./stage prepare data/prepared", "24 66", "mark 42"],
    )
    assert reproduce("prepare", columns=66) == (False, [])
    shutil.rmtree("data")
    assert reproduce("prepare") == (False, []), "DVC has it in its cache"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'ValueError: first' >&2; echo 'JoslimError: a\n  b' >&2", "JoslimError: a\n  b"),
        ("echo note >&2", "note\nfailed to run: ./stage prepare data/prepared, exited with 1"),
        ("kill -9 $$", "failed to run: ./stage prepare data/prepared, exited with -9"),
    ],
)
def test_reason_of_a_failure(project: Project, script: str, expected: str) -> None:
    project.behave("prepare", f"{script}; exit 1")
    with pytest.raises(dvc.StageError) as caught:
        reproduce("prepare")
    assert str(caught.value) == expected


def test_reason_is_dvcs_own_where_the_stage_did_not_start(project: Project) -> None:
    with pytest.raises(dvc.StageError, match=r"No such file or directory: .*data/prepared"):
        reproduce("train")


def test_screen_tells_finished_lines_from_redrawn_rows() -> None:
    screen = Screen()
    assert screen.feed("one\ntwo") == ["one"]
    assert screen.rows == ["two"]
    assert screen.feed("\n\x1b[?25l\r\x1b[2K 1/9") == ["two"]
    assert screen.feed("\r\x1b[2K 2/9") == []
    assert screen.rows == [" 2/9"]
    assert screen.feed("\r\x1b[2Ka note\n\x1b[3") == [], "may be part of what is redrawn"
    assert screen.feed("1m 3/9\x1b[0m") == []
    assert [plain(line) for line in screen.feed("\r\x1b[2K 9/9\n\x1b[?25h")] == ["a note", " 9/9"]
    assert screen.close() == []


def test_screen_keeps_rows_that_are_redrawn_together() -> None:
    screen = Screen()
    redraw = "\r\x1b[2K\x1b[1A\x1b[2K"
    assert screen.feed("\x1b[?25la 1\nb 1") == []
    assert screen.feed(f"{redraw}a 2\nb 2") == []
    assert screen.rows == ["a 2", "b 2"]
    assert screen.feed(f"{redraw}note\na 3\nb 3") == []
    assert screen.feed(f"{redraw}a 4\nb 4") == ["note"]
    assert screen.close() == ["a 4", "b 4"]
