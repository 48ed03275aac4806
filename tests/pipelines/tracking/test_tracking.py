import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from mlflow.entities import Run
from script_project import ROOT

from joslim.errors import JoslimError
from pipelines import tracking


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without git whose database is made once, as that takes seconds."""
    root = tmp_path_factory.mktemp("tracking")
    (root / "dvc.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.chdir(root)
        assert tracking.configure() == f"sqlite:///{root}/mlflow.db"
    return root


@pytest.fixture
def root(database: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(tracking.PIPELINE_RUN_VARIABLE, request.node.name)
    monkeypatch.chdir(database)
    return database


def runs(filter_string: str = "") -> list[Run]:
    return list(
        tracking.client().search_runs(
            [tracking.experiment_id()], filter_string, order_by=["attributes.start_time"]
        )
    )


def parent_of(key: str) -> Run:
    (parent,) = runs(f"tags.`joslim.pipeline_run` = '{key}'")
    return parent


def test_a_stage_logs_everything_into_a_run_nested_in_the_pipelines(
    root: Path, request: pytest.FixtureRequest
) -> None:
    artifact = root / "table.csv"
    artifact.write_text("a,b\n")
    with tracking.stage_run(
        "train",
        params={"seed": 0, "training": {"epochs": 4, "optimizer": {"momentum": 0.9}}},
        data_digest="abc",
    ) as run:
        for step in range(50):
            run.metrics({"loss": 1 / (step + 1)}, step)
        run.artifact(artifact)
        run.headline({"hypervolume": 0.7})
        assert parent_of(request.node.name).info.status == "RUNNING"
    stage = tracking.client().get_run(run.run_id)
    parent = parent_of(request.node.name)
    assert stage.info.run_name == "train"
    assert stage.info.status == parent.info.status == "FINISHED"
    assert stage.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert stage.data.metrics["hypervolume"] == parent.data.metrics["hypervolume"] == 0.7
    assert "loss" not in parent.data.metrics
    assert stage.data.params == {
        "seed": "0",
        "training.epochs": "4",
        "training.optimizer.momentum": "0.9",
    }
    assert stage.data.tags["data.digest"] == "abc"
    assert stage.data.tags["git.commit"] == stage.data.tags["git.dirty"] == "none"
    assert stage.data.tags["dvc.lock"] == "none"
    history = tracking.client().get_metric_history(run.run_id, "loss")
    assert sorted((m.step, m.value) for m in history) == [(i, 1 / (i + 1)) for i in range(50)]
    assert [f.path for f in tracking.client().list_artifacts(run.run_id)] == ["table.csv"]
    assert Path(stage.info.artifact_uri).is_relative_to(root / "mlruns")


def test_metrics_are_there_while_the_stage_runs(root: Path) -> None:
    with tracking.stage_run("train") as run:
        run.metrics({"loss": 0.5}, 1)
        deadline = time.monotonic() + 30
        while not tracking.client().get_metric_history(run.run_id, "loss"):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_stages_of_one_pipeline_run_share_a_parent(
    root: Path, request: pytest.FixtureRequest
) -> None:
    for stage in ("prepare", "train"):
        with tracking.stage_run(stage):
            pass
    parent = parent_of(request.node.name)
    children = runs(f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert [run.info.run_name for run in children] == ["prepare", "train"]


def test_trials_are_nested_in_the_stage_that_runs_them(root: Path) -> None:
    with tracking.stage_run("tune") as stage, tracking.stage_run("trial-1") as trial:
        pass
    tags = tracking.client().get_run(trial.run_id).data.tags
    assert tags["mlflow.parentRunId"] == stage.run_id


def test_a_failing_stage_fails_its_run_and_the_pipeline_until_it_succeeds(
    root: Path, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(ValueError, match="12 images"), tracking.stage_run("prepare") as run:
        raise ValueError("class 3 has 12 images")
    failed = tracking.client().get_run(run.run_id)
    assert failed.info.status == parent_of(request.node.name).info.status == "FAILED"
    assert failed.data.tags["error"] == "ValueError: class 3 has 12 images"
    with tracking.stage_run("prepare"):
        assert parent_of(request.node.name).info.status == "RUNNING"
    assert parent_of(request.node.name).info.status == "FINISHED"


def test_an_interrupted_stage_is_killed(root: Path, request: pytest.FixtureRequest) -> None:
    with pytest.raises(KeyboardInterrupt), tracking.stage_run("train") as run:
        raise KeyboardInterrupt
    assert tracking.client().get_run(run.run_id).info.status == "KILLED"
    assert parent_of(request.node.name).info.status == "KILLED"


def test_the_next_pipeline_run_ends_what_kill_9_left_running(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dies = """
        import os, signal
        from pipelines import tracking
        with tracking.stage_run("train"):
            os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, tracking.PIPELINE_RUN_VARIABLE: "killed"}
    subprocess.run([sys.executable, "-c", textwrap.dedent(dies)], env=environment, check=False)
    assert parent_of("killed").info.status == "RUNNING"
    monkeypatch.setenv(tracking.PIPELINE_RUN_VARIABLE, "after")
    with tracking.stage_run("train"):
        killed = parent_of("killed")
        assert killed.info.status == "KILLED"
        (stage,) = runs(f"tags.mlflow.parentRunId = '{killed.info.run_id}'")
        assert stage.info.status == "KILLED"
        assert parent_of("after").info.status == "RUNNING"


def test_without_a_name_dvc_is_the_pipeline_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes below one that is called dvc share a parent run."""
    monkeypatch.delenv(tracking.PIPELINE_RUN_VARIABLE)
    script = root / "dvc"
    stage = "from pipelines import tracking\nwith tracking.stage_run('{}'): pass"
    script.write_text(
        "import subprocess, sys\n"
        f"for stage in ('prepare', 'train'):\n"
        f"    subprocess.run([sys.executable, '-c', {stage!r}.format(stage)], check=True)\n"
    )
    before = {run.info.run_id for run in runs()}
    subprocess.run([sys.executable, str(script), "repro"], check=True)
    new = [run for run in runs() if run.info.run_id not in before]
    assert sorted(run.info.run_name.split()[-1] for run in new) == ["pipeline", "prepare", "train"]


def test_git_and_dvc_revisions_are_tags(root: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(
            ["git", *identity, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git("init", "--quiet")
        git("commit", "--quiet", "--allow-empty", "--message", "first")
        (root / "dvc.lock").write_text("schema: '2.0'\n")
        with tracking.stage_run("train") as run:
            pass
        tags = tracking.client().get_run(run.run_id).data.tags
        assert tags["git.commit"] == git("rev-parse", "HEAD")
        assert tags["git.dirty"] == "false", "files that git does not know decide nothing"
        assert len(tags["dvc.lock"]) == 64
    finally:
        (root / "dvc.lock").unlink()
        shutil.rmtree(root / ".git")


def test_processes_that_start_at_once_make_one_database_and_one_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv(tracking.PIPELINE_RUN_VARIABLE, "same")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    stage = "from pipelines import tracking\nwith tracking.stage_run('{}'): pass"
    started = [
        subprocess.Popen([sys.executable, "-c", stage.format(f"finetune@{i}")]) for i in range(3)
    ]
    assert [process.wait() for process in started] == [0, 0, 0]
    parent = parent_of("same")
    assert len(runs(f"tags.mlflow.parentRunId = '{parent.info.run_id}'")) == 3
    assert not list(tmp_path.glob("*.draft"))


def test_system_metrics_are_logged(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    with tracking.stage_run("train", system_metrics=True) as run:
        time.sleep(2)
    metrics = tracking.client().get_run(run.run_id).data.metrics
    assert "system/cpu_utilization_percentage" in metrics


def test_another_server_is_used_if_the_environment_names_one(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert tracking.uri() == tracking.configure() == "http://127.0.0.1:1"


def test_a_deleted_experiment_is_restored(root: Path) -> None:
    experiment = tracking.experiment_id()
    tracking.client().delete_experiment(experiment)
    assert tracking.experiment_id() == experiment
    assert tracking.client().get_experiment(experiment).lifecycle_stage == "active"


def test_a_moved_checkout_is_refused_by_name(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "mlflow.db").write_bytes((root / "mlflow.db").read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JoslimError, match=f"keeps its files in {root}/mlruns; expected {tmp_path}"):
        tracking.experiment_id()


TEMPORARY = """
stages:
  note:
    cmd: python -c "from pipelines import tracking; print(tracking.uri())" > store
    outs: [store]
"""


def test_a_temporary_run_of_dvc_records_where_the_checkout_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "dvc.yaml").write_text(TEMPORARY)
    (tmp_path / ".gitignore").write_text("/store\n")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    names = ("-c", "user.name=a", "-c", "user.email=b")
    for command in (
        ("git", "init", "--quiet"),
        ("dvc", "init", "--quiet"),
        ("git", "add", "."),
        ("git", *names, "commit", "--quiet", "--message", "all"),
        ("dvc", "exp", "run", "--temp", "--name", "one"),
        ("dvc", "exp", "apply", "one"),
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "store").read_text() == f"sqlite:///{tmp_path}/mlflow.db\n"
