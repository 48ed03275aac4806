from collections.abc import Iterator, Mapping, Sequence
from functools import partialmethod
from pathlib import Path

import pytest
from mlflow import MlflowClient
from small_project import Project

from joslim.budgets import parse_budget
from joslim.errors import BudgetError, JoslimError
from pipelines import tracking
from pipelines.registry.lookup import Entry, best_within, current_front, find_model
from pipelines.registry.records import (
    LoggedModel,
    NotRegisteredError,
    Query,
    Records,
    RegistryError,
    connect,
)

NAME = "joslim-resnet8-toy"


@pytest.fixture(params=["database", "server"])
def records(
    registered_project: Project, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Records]:
    """The registered project's, from its database and from a real MLflow server in front of it."""
    with registered_project.entered():
        if request.param == "server":
            monkeypatch.setenv("MLFLOW_TRACKING_URI", request.getfixturevalue("server"))
        yield connect()


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A registry of two models with a front, one without, one of candidates, and a stranger's."""
    project = Project(tmp_path_factory.mktemp("several"))
    (project.root / "dvc.yaml").touch()
    finished = {"current_front": "f"}
    with project.entered():
        client = tracking.client()
        client.create_registered_model("joslim-b", finished, "Of birds.")
        client.create_registered_model("joslim-a", finished | {"full_macs": "12.5"})
        client.create_registered_model("joslim-unfinished")
        held = {"candidate_front": "g", "candidate_reason": "tiny: worse"}
        client.create_registered_model("joslim-candidates", held)
        client.create_registered_model("another", {"front": "f"})
    return project


def best(records: Records, budget: str) -> Entry:
    return best_within(records, find_model(records), parse_budget(budget))


def macs(project: Project, name: str) -> int:
    return next(int(row["macs"]) for row in project.rows() if row["id"] == name)


def test_a_budget_gets_the_best_validation_top1_within_it(
    records: Records, registered_project: Project
) -> None:
    assert best(records, "macs=100%").id == "w-full"
    assert best(records, "macs=99%").id == "tiny"
    medium = macs(registered_project, "w-medium")
    assert best(records, f"macs={medium}").id == "tiny"
    assert best(records, f"macs={medium - 1}").id == "w-small"


def test_all_limits_of_a_budget_hold(records: Records) -> None:
    assert best(records, "latency=1.4ms").id == "tiny"
    assert best(records, "macs=100%,latency=1.3ms").id == "w-small"
    assert best(records, "latency=100%,params=100%,memory=100%").id == "w-full"


def test_nothing_feasible_names_the_cheapest_model(records: Records) -> None:
    with pytest.raises(BudgetError) as raised:
        best(records, "macs=1k,memory=100%")
    text = str(raised.value)
    assert f"no version of {NAME} has macs <= 1k and memory <= 100%" in text
    assert f"the cheapest in macs is models:/{NAME}/2 with macs " in text
    assert "latency 1.25 ms" in text


def test_a_quantity_that_nobody_states_is_named(
    records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Records.search

    def without_latency(self: Records, query: Query) -> Iterator[LoggedModel]:
        for logged in search(self, Query(query.front, {}, query.order)):
            numbers = {k: v for k, v in logged.numbers.items() if k != "latency_ms"}
            if "latency_ms" not in query.limits:
                yield LoggedModel(logged.model_id, logged.location, numbers, logged.tags)

    monkeypatch.setattr(Records, "search", without_latency)
    with pytest.raises(BudgetError, match="no version states its latency"):
        best(records, "latency=5ms")


@pytest.mark.parametrize(
    ("limits", "order", "expected"),
    [
        # Of those that cost the same, the newest comes first.
        ({}, [("macs", True)], ["w-small", "tiny", "w-medium", "w-full"]),
        ({"macs": 1e9}, [("macs", False)], ["w-full", "tiny", "w-medium", "w-small"]),
        ({"macs": 1.0}, [("macs", True)], []),
        (
            {"val_top1": 0.86},
            [("val_top1", False), ("macs", True)],
            ["tiny", "w-medium", "w-small"],
        ),
        ({"latency_ms": 1.4, "params": 1e9}, [("macs", False)], ["tiny", "w-small"]),
        ({"nobody_logs_this": 5.0}, [("macs", True)], []),
        (
            {},
            [("params", True), ("val_top1", False)],
            ["w-small", "tiny", "w-medium", "w-full"],
        ),
        (
            {},
            [("params", True), ("val_top1", True)],
            ["w-small", "w-medium", "tiny", "w-full"],
        ),
        # Only the budget's model was tested.
        (
            {},
            [("test_top1", True), ("macs", False), ("val_top1", True)],
            ["tiny", "w-full", "w-medium", "w-small"],
        ),
    ],
)
def test_a_query_is_answered_within_its_limits_and_in_its_order(
    records: Records,
    limits: Mapping[str, float],
    order: Sequence[tuple[str, bool]],
    expected: list[str],
) -> None:
    front = find_model(records).tags["current_front"]
    found = list(records.search(Query(front, limits, order)))
    assert [model.tags["id"] for model in found] == expected
    assert list(records.search(Query("another", limits, order))) == []


def test_what_is_known_of_a_registered_model(records: Records, registered_project: Project) -> None:
    (model,) = records.models()
    assert model.name == NAME
    assert model.aliases == {"budget-tiny": 5, "slimmable": 1}
    assert model.description.startswith("One **resnet8**, trained once on **toy**")
    assert model.full("macs") == macs(registered_project, "w-full")
    assert model.full("latency_ms") == 2.0
    assert model.full("test_top1") is None
    versions = records.versions(NAME)
    assert list(versions.values()) == [1, 2, 3, 4, 5]
    front = records.search(Query(model.tags["current_front"]))
    ids = {versions[f"models:/{logged.model_id}"]: logged.tags["id"] for logged in front}
    assert ids == {2: "w-small", 3: "w-medium", 4: "w-full", 5: "tiny"}
    assert records.versions("joslim-nobody") == {}


SEARCHES = ("search_registered_models", "search_model_versions", "search_logged_models")


@pytest.fixture(params=[1, 3])
def _small_pages(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow gives so many results at a time."""
    for name in SEARCHES:
        search = partialmethod(getattr(MlflowClient, name), max_results=request.param)
        monkeypatch.setattr(MlflowClient, name, search)


@pytest.mark.usefixtures("_small_pages")
def test_pages_are_joined(records: Records) -> None:
    assert list(records.versions(NAME).values()) == [1, 2, 3, 4, 5]
    found = current_front(records, find_model(records))
    assert [entry.id for entry in found] == ["w-small", "w-medium", "tiny", "w-full"]


@pytest.mark.usefixtures("_small_pages")
def test_pages_of_registered_models_are_joined(several: Project) -> None:
    with several.entered():
        found = {model.name: model.description for model in connect().models()}
    assert found == {"joslim-a": "", "joslim-b": "Of birds.", "joslim-candidates": ""}


def test_a_database_that_is_not_there_is_named_and_not_made(
    project_files: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with project_files.entered():
        with pytest.raises(NotRegisteredError, match=r"no registry at .*/mlflow\.db; expected"):
            connect()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/other.db")
        with pytest.raises(NotRegisteredError, match=rf"no registry at {tmp_path}/other\.db; exp"):
            connect()
        assert not (project_files.root / "mlflow.db").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but longer than its header would be" * 9)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(JoslimError, match=r"the store that MLFLOW_TRACKING_URI names: .*database"):
        connect()


def test_a_server_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(JoslimError, match="MLFLOW_TRACKING_URI names a server that does not answ"):
        connect()


def test_what_mlflow_says_to_a_query_that_it_refuses_is_quoted(records: Records) -> None:
    with pytest.raises(RegistryError, match=r"records cannot be read: .*filter"):
        list(records.search(Query("a quote ' in a name")))


def test_several_models_need_a_name(several: Project) -> None:
    with several.entered():
        records = connect()
        assert find_model(records, "joslim-a").full("macs") == 12.5
        assert find_model(records, "joslim-b").description == "Of birds."
        with pytest.raises(RegistryError, match=r"--model: joslim-a, joslim-b$"):
            find_model(records)
        for name in ("joslim-unfinished", "another", "resnet"):
            with pytest.raises(
                NotRegisteredError,
                match=rf"'{name}' is not registered; expected one of: joslim-a, joslim-b$",
            ):
                find_model(records, name)


def test_candidates_alone_are_not_offered(several: Project) -> None:
    with (
        several.entered(),
        pytest.raises(
            NotRegisteredError,
            match=r"^joslim-candidates holds only candidates, which no alias points to: tiny",
        ),
    ):
        find_model(connect(), "joslim-candidates")


def test_an_empty_registry_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").touch()
    uri = tracking.configure()
    with pytest.raises(NotRegisteredError, match=f"no model is registered at {uri}; run"):
        find_model(connect())


def test_the_front_is_sorted_by_macs(records: Records) -> None:
    found = current_front(records, find_model(records))
    assert [entry.numbers["macs"] for entry in found] == sorted(
        entry.numbers["macs"] for entry in found
    )
