import asyncio
from collections.abc import Iterator

import dask
import pytest
from prefect.settings import PREFECT_API_URL
from prefect.testing.utilities import prefect_test_harness
from script_project import BUDGETS, CHAIN, STAGES, WAIT_FOR_ALL_BUDGETS, Project

from joslim.errors import JoslimError
from pipelines.flow.cluster import ADDRESS_VARIABLE, cluster
from pipelines.flow.pipeline import pipeline

distributed = pytest.importorskip("distributed")
pytest.importorskip("prefect_dask")


@pytest.fixture(scope="module")
def prefect() -> Iterator[str]:
    with prefect_test_harness(server_startup_timeout=120):
        yield str(PREFECT_API_URL.value())


@pytest.fixture
def workers(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Dask cluster of two workers in the project's folder."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as local:
        monkeypatch.setenv(ADDRESS_VARIABLE, local.scheduler_address)
        yield


def test_budgets_run_side_by_side_on_the_workers(
    prefect: str, project: Project, workers: None
) -> None:
    for budget in BUDGETS:
        project.behave(f"finetune@{budget}", WAIT_FOR_ALL_BUDGETS)
    state = asyncio.run(pipeline(return_state=True))
    assert state.is_completed(), state.message
    ran = project.ran()
    assert sorted(ran) == sorted(f"{s} {m}" for s in STAGES for m in ("start", "end"))
    assert set(ran[2 * len(CHAIN) :][:2]) == {f"finetune@{budget} start" for budget in BUDGETS}

    project.behave("finetune@tiny", "echo 'DataError: torn' >&2; exit 3")
    project.write_params({"tiny": {"macs": "90%"}, "full": {"macs": "100%"}})
    state = asyncio.run(pipeline(return_state=True))
    assert state.message == "finetune@tiny: DataError: torn"


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ADDRESS_VARIABLE, "tcp://127.0.0.1:9")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "2s"}),
        pytest.raises(JoslimError, match="no scheduler answers there"),
        cluster(),
    ):
        pass
