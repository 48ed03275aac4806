from collections.abc import Iterator

import pytest
from small_project import Project

from joslim.errors import BudgetError
from pipelines import tracking
from pipelines.budgets import parse_budget
from pipelines.lookup import Entry, best_within, current_front, find_model
from pipelines.records import NotRegisteredError, Query, Records, RegistryError, connect
from pipelines.records.client import Client
from pipelines.records.database import Database
from pipelines.records.server import Server

NAME = "joslim-resnet8-toy"


@pytest.fixture
def records(registered_project: Project) -> Iterator[Records]:
    with registered_project.entered():
        yield connect()


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


def test_nothing_feasible_names_the_cheapest_model(
    records: Records, registered_project: Project
) -> None:
    with pytest.raises(BudgetError) as raised:
        best(records, "macs=1k,memory=100%")
    text = str(raised.value)
    assert f"no version of {NAME} has macs <= 1k and memory <= 100%" in text
    assert f"the cheapest in macs is models:/{NAME}/1 with macs " in text
    assert "latency 1.25 ms" in text


def test_a_quantity_that_nobody_states_is_named(
    project_files: Project, registered_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with registered_project.entered():
        records = connect()
        search = Database.search

        def without_latency(self: Database, query: Query) -> Iterator[object]:
            for logged in search(self, Query(query.front, {}, query.order)):
                numbers = {k: v for k, v in logged.numbers.items() if k != "latency_ms"}
                if "latency_ms" not in query.limits:
                    yield type(logged)(logged.model_id, logged.location, numbers, logged.tags)

        monkeypatch.setattr(Database, "search", without_latency)
        with pytest.raises(BudgetError, match="no version states its latency"):
            best(records, "latency=5ms")


QUERIES = [
    {},
    {"macs": 1e9},
    {"macs": 1.0},
    {"val_top1": 0.86},
    {"latency_ms": 1.4, "params": 1e9},
    {"nobody_logs_this": 5.0},
]
ORDERS = [
    [("macs", True)],
    [("macs", False)],
    [("val_top1", False), ("macs", True)],
    [("params", True), ("val_top1", False)],
    [("test_top1", True), ("macs", True)],
]


@pytest.mark.parametrize("door", ["client", "server"])
def test_every_way_to_the_records_tells_the_same(
    door: str, records: Records, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(records, Database)
    other: Records
    if door == "server":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        other = connect()
        assert isinstance(other, Server)
    else:
        other = Client()
    assert other.models() == records.models()
    assert other.versions(NAME) == records.versions(NAME)
    front = find_model(records).tags["current_front"]
    for limits in QUERIES:
        for order in ORDERS:
            query = Query(front, limits, order)
            assert list(other.search(query)) == list(records.search(query)), query
    assert list(other.search(Query("another"))) == list(records.search(Query("another"))) == []


def test_pages_of_a_server_are_joined(
    records: Records, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    door = Server(server)
    call = door._call
    monkeypatch.setattr(
        door,
        "_call",
        lambda path, arguments, post=False: (
            call(path, {**arguments, "max_results": 1}, post=post)
            if "search" in path
            else call(path, arguments, post=post)
        ),
    )
    assert len(door.versions(NAME)) == 4
    assert len(list(door.search(Query(find_model(records).tags["current_front"])))) == 4


def test_another_login_goes_through_mlflows_client(
    records: Records, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "user")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "password")
    assert isinstance(connect(), Server)
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    assert isinstance(connect(), Client)


def test_a_registry_that_is_not_there_is_named(
    project_files: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        project_files.entered(),
        pytest.raises(NotRegisteredError, match=r"no registry at .*/mlflow\.db; expected"),
    ):
        connect()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    with pytest.raises(RegistryError, match=r"http://127\.0\.0\.1:1/api.* cannot be reached"):
        connect().models()


def test_a_server_that_refuses_is_quoted(server: str) -> None:
    with pytest.raises(RegistryError, match=r"answers 404: .*Could not find experiment"):
        Server(server)._call("experiments/get-by-name", {"experiment_name": "nobody's"})


def test_several_models_need_a_name(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    (model,) = records.models()
    other = type(model)("joslim-other-toy", "", model.tags, {})
    unfinished = type(model)("joslim-unfinished-toy", "", {}, {})
    monkeypatch.setattr(Database, "models", lambda self: [model, other, unfinished])
    assert find_model(records, NAME) == model
    with pytest.raises(RegistryError, match=f"--model: joslim-other-toy, {NAME}$"):
        find_model(records)
    with pytest.raises(NotRegisteredError, match="'resnet' is not registered; expected one of"):
        find_model(records, "resnet")
    monkeypatch.setattr(Database, "models", lambda self: [])
    with pytest.raises(NotRegisteredError, match=f"no model is registered at {tracking.uri()}"):
        find_model(records)


def test_the_front_is_sorted_by_macs(records: Records) -> None:
    found = current_front(records, find_model(records))
    assert [entry.numbers["macs"] for entry in found] == sorted(
        entry.numbers["macs"] for entry in found
    )
