"""Stage ``train`` as a process that is killed, and whose MLflow server is; the short versions of
``benchmarks.resume`` and ``benchmarks.outage``."""

import random
from pathlib import Path

import pytest

from benchmarks import outage, resume, small_project


@pytest.fixture(autouse=True)
def own_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_a_killed_training_ends_like_one_left_alone(tmp_path: Path) -> None:
    small_project.make(tmp_path, epochs=4, checkpoint_steps=4)
    whole, _ = resume.train(tmp_path)
    alone = resume.results(tmp_path)
    assert resume.train_killed(tmp_path, random.Random(1), (whole, 0.5))
    for name, contents in resume.results(tmp_path).items():
        assert contents == alone[name], name


def test_points_logged_while_the_server_is_away_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without retries by MLflow, as in an outage longer than they last."""
    monkeypatch.setattr(outage, "SECONDS_BEFORE", 2.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    outcome = outage.train_through_outage(tmp_path, 6.0, epochs=40)
    assert outcome.steps_during > 0
    assert outcome.points > 0
    assert outcome.lost == 0
