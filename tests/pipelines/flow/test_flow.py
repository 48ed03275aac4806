import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL
from prefect.states import State
from prefect.testing.utilities import prefect_test_harness
from script_project import (
    BUDGETS,
    CHAIN,
    ROOT,
    STAGES,
    WAIT_FOR_ALL_BUDGETS,
    Project,
    wait_for_process,
)

from pipelines.flow.pipeline import pipeline


@pytest.fixture(scope="module")
def prefect() -> Iterator[SyncPrefectClient]:
    with (
        prefect_test_harness(server_startup_timeout=120),
        get_client(sync_client=True) as client,
    ):
        yield client


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
    has_cores = (os.cpu_count() or 1) > 1
    for budget in BUDGETS if has_cores else ():
        project.behave(f"finetune@{budget}", WAIT_FOR_ALL_BUDGETS)

    state = run_flow()
    assert state.is_completed()
    runs = task_runs(prefect, state)
    assert sorted(runs) == sorted(STAGES)
    assert {run.state_name for run in runs.values()} == {"Completed"}

    ran = project.ran()
    alone = [f"{stage} {moment}" for stage in CHAIN for moment in ("start", "end")]
    assert ran[:8] == alone
    assert ran[-4:] == ["register start", "register end", "report start", "report end"]
    for budget in BUDGETS:
        assert ran.index(f"finetune@{budget} end") < ran.index(f"evaluate@{budget} start")
    if has_cores:
        assert {"finetune@tiny start", "finetune@full start"} == set(ran[8:10]), "side by side"
    for budget in BUDGETS:
        project.behave(f"finetune@{budget}", "")

    state = run_flow()
    look_each_time = ["inputs", "register"]
    assert [line.split()[0] for line in project.ran()[::2]] == look_each_time
    runs = task_runs(prefect, state)
    assert {runs.pop(stage).state_name for stage in look_each_time} == {"Completed"}
    assert {run.state_name for run in runs.values()} == {"Cached"}

    project.write_params({"tiny": {"macs": "90%"}, "full": {"macs": "100%"}})
    state = run_flow()
    assert [line.split()[0] for line in project.ran()[::2]] == [
        "inputs",
        "finetune@tiny",
        "register",
    ]
    runs = task_runs(prefect, state)
    assert [runs[f"finetune@{budget}"].state_name for budget in BUDGETS] == ["Completed", "Cached"]

    artifacts = {artifact.key: artifact for artifact in prefect.read_artifacts()}
    assert artifacts["progress"].data == 100
    assert json.loads(artifacts["front"].data)[0]["macs"] == "3M"
    assert [row["version"] for row in json.loads(artifacts["budgets"].data)] == ["1", "2"]
    assert [row["val top-1 now"] for row in json.loads(artifacts["before"].data)] == [
        "90.00%, version 1",
        "90.00%, version 2",
    ]
    assert artifacts["front-picture"].data.startswith("![front](data:image/png;base64,")


def test_going_back_to_earlier_settings_brings_back_all_that_followed_from_them(
    prefect: SyncPrefectClient, project: Project
) -> None:
    model, report = "models/budgets/tiny", "reports/evaluated/tiny"
    project.behave("finetune@tiny", f"mkdir -p {model}; cp params.yaml {model}")
    project.behave("evaluate@tiny", f"mkdir -p {report}; cp {model}/params.yaml {report}")
    for limit in ("100%", "90%", "100%"):
        project.write_params({"tiny": {"macs": limit}, "full": {"macs": "100%"}})
        state = run_flow()
        settings = (project.root / "params.yaml").read_text()
        assert (project.root / report / "params.yaml").read_text() == settings, limit
    runs = task_runs(prefect, state)
    restored = {"finetune@tiny", "evaluate@tiny", "assemble", "report"}
    assert {name for name, run in runs.items() if run.state_name == "Restored"} == restored


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


def start_flow(*arguments: str, api: str | None = None) -> subprocess.Popen[str]:
    """``python -m pipelines.flow``, with Prefect's server at ``api`` or else one of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.flow", *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | ({"PREFECT_API_URL": api} if api else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Where the tests run in the background, SIGINT is ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def state_names(client: SyncPrefectClient) -> dict[str, str]:
    """States of the latest flow run and of its tasks, by their names."""
    started = FlowRunFilter(start_time={"is_null_": False})
    (flow_run,) = client.read_flow_runs(
        flow_run_filter=started, limit=1, sort=FlowRunSort.START_TIME_DESC
    )
    assert flow_run.state is not None
    runs = task_runs(client, flow_run.state)
    return {"flow": flow_run.state_name or ""} | {n: r.state_name or "" for n, r in runs.items()}


def test_ctrl_c_ends_the_flow_and_all_its_processes(
    prefect: SyncPrefectClient, project: Project
) -> None:
    project.behave("train", "sleep 1000")
    flow = start_flow(api=str(PREFECT_API_URL.value()))
    family = wait_for_process("sleep 1000", flow.pid)
    flow.send_signal(signal.SIGINT)
    output, _ = flow.communicate(timeout=300)
    assert flow.returncode == 128 + signal.SIGINT
    assert output.endswith("interrupted: the next run goes on where this one stopped\n")
    assert "rash" not in output
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert state_names(prefect) == {
        "flow": "Interrupted",
        "inputs": "Completed",
        "prepare": "Completed",
        "train": "Interrupted",
    }


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_server_ends_the_run_that_is_on_and_starts_none_that_waits(
    prefect: SyncPrefectClient, project: Project, ending: signal.Signals
) -> None:
    project.behave("inputs", "sleep 1000")
    serving = start_flow("--serve", api=str(PREFECT_API_URL.value()))
    assert serving.stdout is not None
    while "start a run" not in (line := serving.stdout.readline()):
        assert line, "it ended"
    deployment = prefect.read_deployment_by_name("joslim/joslim")
    runs = [prefect.create_flow_run_from_deployment(deployment.id).id for _ in range(2)]
    family = wait_for_process("sleep 1000", serving.pid)
    serving.send_signal(ending)
    output, _ = serving.communicate(timeout=300)
    assert serving.returncode == 0
    assert "rash" not in output
    assert "Traceback" not in output
    assert psutil.wait_procs(family, timeout=60)[1] == []
    assert project.ran() == ["inputs start"]
    states = [prefect.read_flow_run(run).state for run in runs]
    assert sorted(state.type.value for state in states if state) == ["CANCELLED", "SCHEDULED"]
    for run in runs:
        prefect.delete_flow_run(run)


def test_flows_that_start_at_once_have_a_server_each(project: Project, tmp_path: Path) -> None:
    """Over one database, which is not there yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
        flows = [start_flow() for _ in range(2)]
        outputs = [flow.communicate()[0] for flow in flows]
    assert [flow.returncode for flow in flows] == [0, 0], "\n".join(outputs)
    addresses = [re.findall(r"while this runs: (\S+)", output) for output in outputs]
    assert len({address for (address,) in addresses}) == 2
    assert project.ran().count("train start") == 1


def test_an_error_of_a_stage_is_told_once(prefect: SyncPrefectClient, project: Project) -> None:
    error = "DataError: image 7 is torn; expected it to be whole"
    project.behave("prepare", f"echo '{error}' >&2; exit 3")
    flow = start_flow(api=str(PREFECT_API_URL.value()))
    output, _ = flow.communicate()
    assert flow.returncode == 1
    assert output.count("torn") == 1
    assert output.endswith(f"error: prepare: {error}\n")
    assert "NoneType" not in output
