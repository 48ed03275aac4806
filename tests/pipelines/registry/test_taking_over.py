"""Runs one after the other in one registry: who takes over, who is held back, and the way back."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from small_project import Project
from typer.testing import CliRunner

from joslim.budgets import parse_budget
from pipelines import tracking
from pipelines.cli import app
from pipelines.registry.lookup import best_within, find_model
from pipelines.registry.records import RegistryError, connect
from pipelines.registry.standing import roll_back

NAME = "joslim-resnet8-toy"
IMAGES = np.zeros((2, 1, 12, 12), np.float32)


@pytest.fixture
def project(registered_project: Project, tmp_path: Path) -> Project:
    """A registered project of one's own: versions 1 to 5, the last one the budget's."""
    return registered_project.copy_registered(tmp_path / "project")


def aliases(project: Project, name: str = NAME) -> dict[str, int]:
    with project.entered():
        model = connect().model(name)
    return dict(model.aliases) if model else {}


def standing(project: Project, version: int) -> str | None:
    with project.entered():
        tags = tracking.client().get_model_version(NAME, str(version)).tags
    return tags.get("standing")


def registered(project: Project) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project.root / "reports/registered.json").read_text())
    return content


def best(project: Project) -> int:
    """The version that a lookup answers."""
    with project.entered():
        records = connect()
        return best_within(records, find_model(records), parse_budget("macs=50%")).version


def last_register_run(project: Project) -> mlflow.entities.Run:
    with project.entered():
        found = tracking.client().search_runs(
            [tracking.experiment_id()],
            "tags.`joslim.stage` = 'register'",
            order_by=["attributes.start_time DESC"],
        )
    return found[0]


FIRST = {"budget-tiny": 5, "slimmable": 1}


def test_a_worse_model_becomes_a_candidate_and_the_one_before_stays(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert aliases(project) == FIRST
    project.train(seed=1, gain=-0.05)
    versions = project.register()
    assert aliases(project) == FIRST
    assert {version["version"] for version in versions} == {6, 7, 8, 9, 10}
    assert not any(version["aliases"] for version in versions)
    reason = (
        "tiny: val top-1 81.00% is below version 5's 86.00% by more than chance explains "
        "(1.33 points)"
    )
    assert standing(project, 10) == standing(project, 6) == f"candidate: {reason}"
    assert registered(project)["held_back"] == [reason]
    printed = " ".join(capsys.readouterr().out.split())
    assert "Held back: the models before stay" in printed
    assert "tiny 86.00%, version 5 81.00%, version 10 -5.00 ±1.33" in printed
    assert reason in printed
    run = last_register_run(project)
    assert run.data.tags["held_back"] == reason
    assert (
        "| tiny | 86.00%, version 5 | 81.00%, version 10 |"
        in (run.data.tags["mlflow.note.content"])
    )
    assert best(project) == 5
    with project.entered():
        looked_up = CliRunner().invoke(app, ["lookup", "-b", "macs=50%"])
        assert f"models:/{NAME}/5" in looked_up.stdout.splitlines()
        assert looked_up.stderr == f"{NAME}: newer models are held back: {reason}\n"
        tracking.configure()
        for version in (5, 10):
            assert mlflow.pyfunc.load_model(f"models:/{NAME}/{version}").predict(IMAGES).shape
        assert mlflow.pyfunc.load_model(f"models:/{NAME}@slimmable").predict(
            IMAGES, params={"budget": "tiny"}
        )


def test_a_better_model_takes_over_and_the_one_before_is_the_previous_one(
    project: Project,
) -> None:
    project.train(seed=1, gain=0.02)
    project.register()
    assert aliases(project) == {
        "budget-tiny": 10, "slimmable": 6, "previous-budget-tiny": 5, "previous-slimmable": 1,
    }  # fmt: skip
    assert [standing(project, n) for n in (1, 5, 6, 10)] == [*["replaced"] * 2, *["current"] * 2]
    assert registered(project)["held_back"] == []
    assert registered(project)["comparisons"][0]["before"] == 5
    assert best(project) == 10


def test_a_model_that_chance_makes_look_worse_takes_over(project: Project) -> None:
    project.train(seed=1, gain=-0.01)
    project.register()
    assert aliases(project)["budget-tiny"] == 10


def test_a_second_run_of_the_stage_changes_nothing(project: Project) -> None:
    for gain in (0.02, -0.05):
        project.train(seed=1, gain=gain)
        project.register()
        before, run = registered(project), last_register_run(project).info.run_id
        project.register()
        assert registered(project) == before
        assert last_register_run(project).info.run_id == run


def test_candidates_take_over_where_nothing_is_required(project: Project) -> None:
    project.train(seed=1, gain=-0.05)
    project.register()
    project.write_params(register={"require": "nothing"})
    project.register()
    assert aliases(project)["budget-tiny"] == 10
    assert standing(project, 10) == "current"
    project.write_params(register={"require": "not-worse"})
    project.register()
    assert aliases(project)["budget-tiny"] == 10, "what has taken over stays"


def test_rollback_goes_back_and_a_repro_leaves_it_so(project: Project) -> None:
    project.train(seed=1, gain=0.02)
    project.register()
    with project.entered():
        result = CliRunner().invoke(app, ["rollback"])
    assert result.exit_code == 0, result.output
    assert "budget-tiny 10 5" in " ".join(result.stdout.split())
    back = {
        "budget-tiny": 5, "slimmable": 1, "previous-budget-tiny": 10, "previous-slimmable": 6,
    }  # fmt: skip
    assert aliases(project) == back
    assert standing(project, 10) == "rolled back"
    assert best(project) == 5
    with project.entered():
        description = tracking.client().get_registered_model(NAME).description
    assert "|5&emsp;|**tiny**" in description
    assert "|10&emsp;|" not in description
    project.register()
    assert aliases(project) == back
    (reason,) = registered(project)["held_back"]
    assert reason.startswith("rolled back on 2")
    with project.entered():
        roll_back()
    assert aliases(project)["budget-tiny"] == 10
    project.register()
    assert registered(project)["held_back"] == []


def test_other_models_after_a_rollback_are_compared_with_those_that_stand(
    project: Project,
) -> None:
    project.train(seed=1, gain=0.03)
    project.register()
    with project.entered():
        roll_back()
    project.train(seed=2, gain=0.01)
    project.register()
    assert aliases(project)["budget-tiny"] == 15
    assert aliases(project)["previous-budget-tiny"] == 5


def test_rollback_needs_models_to_go_back_to(project: Project) -> None:
    with project.entered(), pytest.raises(RegistryError, match="has no models before the current"):
        roll_back()
    project.train(seed=1, gain=0.02)
    project.register()
    with project.entered():
        client = tracking.client()
        client.delete_model_version(NAME, "1")
        with pytest.raises(RegistryError, match="cannot go back: the versions before have been"):
            roll_back()
    assert aliases(project)["budget-tiny"] == 10


def test_a_model_that_guesses_is_a_candidate_though_nothing_was_before(
    project_files: Project, tmp_path: Path
) -> None:
    project = project_files.copy(tmp_path / "project")
    project.train(seed=1, gain=-0.755)
    project.register()
    assert aliases(project) == {}
    (reason,) = registered(project)["held_back"]
    assert reason == (
        "tiny: val top-1 10.50% is no better than a guess: always naming the most frequent class "
        "gives 10.00% (6,000 images)"
    )
    with project.entered():
        for command in (["lookup", "-b", "macs=50%"], ["front"], ["rollback"]):
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 1
            assert f"{NAME} holds only candidates, which no alias points to: {reason}" in (
                result.stderr
            )
        description = tracking.client().get_registered_model(NAME).description
    assert description == f"Only candidates so far: {reason}."
    project.train(seed=2)
    project.register()
    assert aliases(project) == {"budget-tiny": 10, "slimmable": 6}
    assert best(project) == 10


def test_a_persons_own_aliases_stay(project: Project) -> None:
    with project.entered():
        client = tracking.client()
        for alias in ("budget-production", "champion"):
            client.set_registered_model_alias(NAME, alias, "5")
    project.train(seed=1, gain=0.02)
    project.register()
    found = aliases(project)
    assert (found["budget-production"], found["champion"]) == (5, 5)
    with project.entered():
        client.set_registered_model_alias(NAME, "budget-tiny", "5")
    project.register()
    assert aliases(project)["budget-tiny"] == 5, "moved by a person, and no other models since"


def delete_alias_holder(client: MlflowClient) -> None:
    client.delete_model_version(NAME, "5")


def delete_model(client: MlflowClient) -> None:
    model_id = client.get_model_version(NAME, "5").source.removeprefix("models:/")
    client.delete_logged_model(model_id)


def point_to_a_strangers_version(client: MlflowClient) -> None:
    version = client.create_model_version(NAME, "s3://elsewhere/model").version
    client.set_registered_model_alias(NAME, "budget-tiny", str(version))


def delete_its_run(client: MlflowClient) -> None:
    client.delete_run(client.get_model_version(NAME, "5").run_id)


def forget_its_images(client: MlflowClient) -> None:
    model_id = client.get_model_version(NAME, "5").source.removeprefix("models:/")
    for tag in ("val_digest", "num_val"):
        client.delete_logged_model_tag(model_id, tag)


@pytest.mark.parametrize(
    ("change", "takes_over", "note"),
    [
        (delete_alias_holder, True, ""),
        (delete_model, True, "no val top-1 is known of version 5: not compared"),
        (point_to_a_strangers_version, True, "no val top-1 is known of version 6: not compared"),
        (delete_its_run, False, ""),
        (forget_its_images, False, "version 5 was measured on unknown validation images"),
    ],
)
def test_models_before_of_which_little_is_left(
    project: Project, change: Any, takes_over: bool, note: str
) -> None:
    with project.entered():
        change(tracking.client())
    project.train(seed=1, gain=-0.05)
    versions = project.register()
    (comparison,) = registered(project)["comparisons"]
    assert comparison["note"] == note
    assert bool(registered(project)["held_back"]) is not takes_over
    assert (versions[-1]["aliases"] == ["budget-tiny"]) is takes_over


def test_other_validation_images_count_with_their_own_error(project: Project) -> None:
    project.write_manifest(val_images=200, digest="cd" * 32)
    project.train(seed=1, gain=-0.04)
    project.register()
    (comparison,) = registered(project)["comparisons"]
    assert comparison["note"] == "version 5 was measured on other validation images"
    assert comparison["reason"] == ""
    assert comparison["allowed"] == pytest.approx(0.048, abs=1e-3)


def test_a_model_has_the_name_that_is_wanted(project_files: Project, tmp_path: Path) -> None:
    project = project_files.copy(tmp_path / "project")
    project.write_params(register={"model_name": "flowers_v2.small"})
    project.register()
    assert registered(project)["model"] == "flowers_v2.small"
    assert set(aliases(project, "flowers_v2.small")) == {"budget-tiny", "slimmable"}
    assert best(project) == 5
