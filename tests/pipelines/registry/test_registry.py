import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from small_project import Project

import joslim
from joslim.errors import DataError
from joslim.supernet import SlimmableModel
from joslim.supernet.artifact import load_slimmable
from pipelines import tracking
from pipelines.registry import export
from pipelines.registry.lookup import Entry, current_front, find_model, slimmable_version
from pipelines.registry.records import NotRegisteredError, connect
from pipelines.stages import register

NAME = "joslim-resnet8-toy"


@pytest.fixture
def project(registered_project: Project, tmp_path: Path) -> Project:
    """A registered project of one's own."""
    return registered_project.copy_registered(tmp_path / "project")


def entries(project: Project) -> dict[str, Entry]:
    with project.entered():
        records = connect()
        found = current_front(records, find_model(records, NAME))
    assert len({entry.id for entry in found}) == len(found)
    return {entry.id: entry for entry in found}


def in_project(project: Project, work: Callable[[MlflowClient], Any]) -> Any:
    with project.entered():
        return work(tracking.client())


def num_versions(project: Project) -> int:
    return in_project(project, lambda c: len(c.search_model_versions(f"name = '{NAME}'")))


def num_runs(project: Project) -> int:
    return in_project(project, lambda c: len(c.search_runs([tracking.experiment_id()])))


def test_every_model_is_a_version_with_its_numbers(registered_project: Project) -> None:
    found = entries(registered_project)
    assert list(found) == ["w-small", "w-medium", "tiny", "w-full"]
    rows = {row["id"]: row for row in registered_project.rows()}
    for name in ("w-small", "w-medium", "w-full"):
        entry, row = found[name], rows[name]
        assert entry.kind == "front"
        assert entry.logged.tags["widths"] == row["widths"]
        for column in ("macs", "params", "memory_bytes", "latency_ms", "val_top1", "val_loss"):
            assert entry.numbers[column] == float(row[column])
        assert "test_top1" not in entry.numbers
    assert found["tiny"].kind == "budget"
    assert found["tiny"].logged.tags["widths"] == rows["w-medium"]["widths"]
    assert found["tiny"].aliases == ("budget-tiny",)
    assert found["tiny"].numbers["val_top1"] == 0.86
    assert found["tiny"].numbers["test_top1"] == 0.855


def test_each_metric_of_a_model_is_logged_once(registered_project: Project) -> None:
    def check(client: MlflowClient) -> None:
        for model in client.search_logged_models([tracking.experiment_id()]):
            keys = [metric.key for metric in model.metrics or ()]
            assert len(keys) == len(set(keys))
            assert len(keys) > 5 or model.tags["kind"] == "slimmable"

    in_project(registered_project, check)


def slimmable_entry(project: Project) -> Entry:
    with project.entered():
        records = connect()
        return slimmable_version(records, find_model(records, NAME))


def test_versions_load_through_the_one_that_holds_the_weights(project: Project) -> None:
    images = torch.rand(5, 1, 12, 12)
    saved = load_slimmable(project.root / "models/slimmable")
    with project.entered():
        tracking.configure()
        every = mlflow.pyfunc.load_model(f"models:/{NAME}@slimmable")
        for entry in entries(project).values():
            expected = saved.at(entry.id)(images).numpy()
            one = mlflow.pyfunc.load_model(entry.uri)
            np.testing.assert_array_equal(one.predict(images.numpy()), expected)
            answer = every.predict(images.numpy(), params={"budget": entry.id})
            assert answer["configuration"] == entry.id
            np.testing.assert_array_equal(answer["logits"], expected)
            assert not [*Path(entry.logged.location).rglob("*.safetensors")]
            signature = mlflow.models.get_model_info(entry.uri).signature
            assert signature.inputs.inputs[0].shape == (-1, 1, 12, 12)
            assert signature.outputs.inputs[0].shape == (-1, 10)
            assert signature.inputs.inputs[0].type == np.float32
        folder = mlflow.artifacts.download_artifacts(f"models:/{NAME}@slimmable/artifacts")
        network = joslim.load(Path(folder) / "slimmable")
    assert isinstance(network, SlimmableModel)
    assert torch.equal(network.at("tiny")(images), saved.at("tiny")(images))


def test_slices_outlive_the_version_with_the_weights_but_not_its_model(project: Project) -> None:
    slimmable, one = slimmable_entry(project), entries(project)["w-small"]
    in_project(project, lambda client: client.delete_model_version(NAME, slimmable.version))
    with project.entered():
        tracking.configure()
        mlflow.pyfunc.load_model(one.uri)
        with pytest.raises(NotRegisteredError, match="has no version with the alias 'slimmable'"):
            slimmable_entry(project)
    in_project(project, lambda client: client.delete_logged_model(slimmable.logged.model_id))
    shutil.rmtree(slimmable.logged.location)
    with (
        project.entered(),
        pytest.raises(
            MlflowException,
            match=rf"'w-small' is a slice of models:/{slimmable.logged.model_id}, which cannot be",
        ),
    ):
        mlflow.pyfunc.load_model(one.uri)
    project.register()
    assert entries(project)["w-small"].version > one.version
    with project.entered():
        mlflow.pyfunc.load_model(entries(project)["w-small"].uri)


def test_a_model_that_shares_no_weights_holds_them_once(project: Project) -> None:
    project.add_budget("large", "w-full", val_top1=0.92, limits={"macs": "100%"}, private="all")
    project.assemble(tiny={"macs": "50%"}, large={"macs": "100%"})
    project.register()
    images = torch.rand(5, 1, 12, 12)
    expected = joslim.load(project.root / "models/budgets/large")(images).detach().numpy()
    entry = entries(project)["large"]
    assert not [*Path(entry.logged.location).rglob("*.safetensors")]
    with project.entered():
        tracking.configure()
        served = mlflow.pyfunc.load_model(entry.uri)
        assert mlflow.pytorch.load_model(entry.uri)(images[:1]).shape == (1, 10)
        exported = export.program(entry).module()(images).detach().numpy()
    np.testing.assert_allclose(served.predict(images.numpy()), expected, atol=1e-5)
    np.testing.assert_allclose(exported, expected, atol=1e-5)


def test_a_request_says_its_budget_or_its_deadline(registered_project: Project) -> None:
    images = np.zeros((2, 1, 12, 12), np.float32)
    with registered_project.entered():
        tracking.configure()
        served = mlflow.pyfunc.load_model(f"models:/{NAME}@slimmable")
    for params in ({"budget": "macs=100%"}, {"deadline_ms": 60_000}):
        assert served.predict(images, params=params)["configuration"] == "w-full"
    for params, message in (
        ({}, "params has neither of budget and deadline_ms; expected one of them"),
        ({"bugdet": "macs=50%"}, "params has neither of budget and deadline_ms"),
        ({"budget": "macs=50%", "deadline_ms": 5.0}, "params has budget and deadline_ms"),
        ({"budget": "macs=1"}, "the cheapest in macs is 'w-small'"),
        ({"deadline_ms": 1e-6}, "deadline_ms is 1e-06, but the fastest configuration"),
    ):
        with pytest.raises(MlflowException, match=message) as refused:
            served.predict(images, params=params)
        assert refused.value.get_http_status_code() == 400


def test_registering_again_changes_nothing_and_does_not_import_torch(project: Project) -> None:
    written = (project.root / "reports/registered.json").read_bytes()
    versions, runs = num_versions(project), num_runs(project)
    script = (
        "import sys; from pipelines.stages import register; register.main();"
        "assert 'torch' not in sys.modules"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    subprocess.run([sys.executable, "-c", script], cwd=project.root, env=environment, check=True)
    assert (project.root / "reports/registered.json").read_bytes() == written
    assert (num_versions(project), num_runs(project)) == (versions, runs)


def test_a_lost_database_is_filled_again(project: Project) -> None:
    before = json.loads((project.root / "reports/registered.json").read_text())
    (project.root / "mlflow.db").unlink()
    shutil.rmtree(project.root / "mlruns")
    assert project.register() == before["versions"]
    assert list(entries(project)) == ["w-small", "w-medium", "tiny", "w-full"]


def test_a_deleted_registered_model_is_filled_again_without_another_export(
    project: Project,
) -> None:
    models = {entry.logged.model_id for entry in entries(project).values()}
    in_project(project, lambda client: client.delete_registered_model(NAME))
    project.register()
    assert {entry.logged.model_id for entry in entries(project).values()} == models


def test_a_deleted_version_is_registered_again(project: Project) -> None:
    gone = entries(project)["w-small"]
    in_project(project, lambda client: client.delete_model_version(NAME, gone.version))
    assert "w-small" not in entries(project)
    project.register()
    assert entries(project)["w-small"].version > gone.version


def test_lost_files_are_logged_again_and_the_broken_version_goes(project: Project) -> None:
    broken = entries(project)["w-medium"]
    shutil.rmtree(broken.logged.location)
    project.register()
    mended = entries(project)["w-medium"]
    assert mended.logged.model_id != broken.logged.model_id
    assert (Path(mended.logged.location) / "MLmodel").is_file()
    assert num_versions(project) == 5


def test_a_changed_budget_moves_its_alias_to_a_new_set_of_versions(project: Project) -> None:
    before = entries(project)
    project.add_budget("tiny", "w-small", val_top1=0.83, limits={"macs": "20%"})
    project.assemble(tiny={"macs": "20%"})
    project.register()
    after = entries(project)
    assert list(after) == ["w-small", "tiny", "w-medium", "w-full"]
    assert after["tiny"].aliases == ("budget-tiny",)
    assert min(e.version for e in after.values()) > max(e.version for e in before.values())
    model = in_project(project, lambda c: c.get_model_version_by_alias(NAME, "budget-tiny"))
    assert int(model.version) == after["tiny"].version
    with project.entered():
        mlflow.pyfunc.load_model(before["tiny"].uri)


def test_changed_limits_are_registered_though_the_slice_is_the_same(project: Project) -> None:
    project.add_budget("tiny", "w-medium", val_top1=0.86, limits={"macs": "60%"})
    project.assemble(tiny={"macs": "60%"})
    project.register()
    version = in_project(project, lambda c: c.get_model_version_by_alias(NAME, "budget-tiny"))
    assert "(macs ≤ 60%)" in version.description


def test_a_removed_budget_leaves_neither_alias_nor_model_in_the_front(project: Project) -> None:
    project.add_budget("large", "w-full", val_top1=0.92, limits={"macs": "100%"})
    project.assemble(tiny={"macs": "50%"}, large={"macs": "100%"})
    project.register()
    assert entries(project)["large"].aliases == ("budget-large",)
    project.assemble(large={"macs": "100%"})
    project.register()
    assert "tiny" not in entries(project)
    model = in_project(project, lambda client: client.get_registered_model(NAME))
    ours = [alias for alias in sorted(model.aliases) if not alias.startswith("previous-")]
    assert ours == ["budget-large", "slimmable"]
    assert "previous-budget-tiny" in model.aliases


def test_a_new_front_replaces_the_old_one_in_lookups(project: Project) -> None:
    before = entries(project)
    project.write_rows(project.rows()[:2])
    project.register()
    after = entries(project)
    assert list(after) == ["w-small", "w-medium", "tiny"]
    assert {name: entry.version for name, entry in after.items()} == {
        name: before[name].version for name in after
    }


def test_an_interruption_halfway_is_continued(
    project_files: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = project_files.copy(tmp_path / "project")

    def interrupted(items: Any, *_: object) -> Any:
        yield from items[:2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(register, "track", interrupted)
        with pytest.raises(KeyboardInterrupt):
            project.register()
    assert num_versions(project) == 2
    project.register()
    assert num_versions(project) == 5
    assert list(entries(project)) == ["w-small", "w-medium", "tiny", "w-full"]


def test_a_person_finds_the_front_in_the_description(registered_project: Project) -> None:
    model = in_project(registered_project, lambda client: client.get_registered_model(NAME))
    rows = [
        [cell.removesuffix("&emsp;") for cell in line.split("|")[1:-1]]
        for line in model.description.splitlines()
        if line.startswith("|")
    ]
    assert rows[0][:3] == ["version", "budget", "macs"]
    assert [row[0] for row in rows[2:]] == ["2", "3", "5", "4"]
    assert rows[4][1] == "**tiny**"
    assert rows[4][-2:] == ["86.00%", "85.50%"]
    assert f"models:/{NAME}@budget-tiny" in model.description
    assert "N×1×12×12" in model.description
    assert "class 0, class 1" in model.description
    assert (
        "Latencies are of one image on a toy, 1 thread, measured on 2026-01-31."
        in model.description
    )
    version = in_project(registered_project, lambda c: c.get_model_version(NAME, "5"))
    assert version.description.startswith("Fine-tuned for the budget tiny (macs ≤ 50%): ")
    assert version.tags["test_top1"] == "85.50%"


def test_what_is_missing_is_named(project_files: Project, tmp_path: Path) -> None:
    project = project_files.copy(tmp_path / "project")
    (project.root / "reports/evaluate/tiny/metrics.json").unlink()
    with pytest.raises(DataError, match=r"^reports/evaluate/tiny/metrics\.json cannot be read"):
        project.register()
