"""Stage ``register`` and a rollback, killed just before a write; the next one finishes the work."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from small_project import Project

from pipelines import tracking
from pipelines.registry.records import connect
from pipelines.registry.standing import roll_back

NAME = "joslim-resnet8-toy"
SCRIPT = """
import os, signal, sys
from mlflow import MlflowClient
from pipelines.registry.standing import roll_back
from pipelines.stages import register

work, method, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
original, calls = getattr(MlflowClient, method), 0

def killed(self, *args, **kwargs):
    global calls
    calls += 1
    if calls == count:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(self, *args, **kwargs)

setattr(MlflowClient, method, killed)
{"register": register.main, "rollback": roll_back}[work]()
"""


def kill(project: Project, work: str, method: str, count: int) -> None:
    """Do the work in a process that is killed before the so many-th call of a write of MLflow's."""
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    command = [sys.executable, "-c", SCRIPT, work, method, str(count)]
    done = subprocess.run(command, cwd=project.root, env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def assert_whole(project: Project, num_versions: int) -> None:
    """Every model is complete and linked to its one version."""
    with project.entered():
        client, records = tracking.client(), connect()
        versions = records.versions(NAME)
        models = client.search_logged_models([tracking.experiment_id()])
    assert len(versions) == len(models) == num_versions
    for model in models:
        assert "digest" in model.tags
        (link,) = json.loads(model.tags["mlflow.modelVersions"])
        assert int(link["version"]) == versions[model.model_uri]
        assert model.status == "READY"


def aliases(project: Project) -> dict[str, int]:
    with project.entered():
        model = connect().model(NAME)
    assert model is not None
    return dict(model.aliases)


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ("finalize_logged_model", 2),
        ("set_logged_model_tags", 3),
        ("set_logged_model_tags", 4),
        ("set_registered_model_alias", 2),
    ],
)
def test_a_killed_registration_is_finished_by_the_next(
    project_files: Project, tmp_path: Path, method: str, count: int
) -> None:
    project = project_files.copy(tmp_path / "project")
    kill(project, "register", method, count)
    versions = project.register()
    assert_whole(project, 5)
    found = aliases(project)
    assert set(found) == {"slimmable", "budget-tiny"}
    assert {v["id"]: v["version"] for v in versions}["tiny"] == found["budget-tiny"]
    assert project.register() == versions


@pytest.mark.parametrize(
    ("method", "count", "rollback_count"),
    # The last write of `set_registered_model_tag` is the one that moves what counts.
    [("set_registered_model_alias", 4, 4), ("set_registered_model_tag", 6, 7)],
)
def test_a_killed_take_over_or_rollback_is_finished_by_the_next(
    registered_project: Project, tmp_path: Path, method: str, count: int, rollback_count: int
) -> None:
    project = registered_project.copy_registered(tmp_path / "project")
    project.train(seed=1, gain=0.02)
    kill(project, "register", method, count)
    project.register()
    assert_whole(project, 10)
    forward = {
        "budget-tiny": 10, "slimmable": 6, "previous-budget-tiny": 5, "previous-slimmable": 1,
    }  # fmt: skip
    assert aliases(project) == forward
    kill(project, "rollback", method, rollback_count)
    with project.entered():
        roll_back()
    assert aliases(project) == {
        "budget-tiny": 5, "slimmable": 1, "previous-budget-tiny": 10, "previous-slimmable": 6,
    }  # fmt: skip
    with project.entered():
        roll_back()
    assert aliases(project) == forward
