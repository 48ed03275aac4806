"""MLflow runs: one parent per pipeline run, one nested run per stage.

Nobody ends a parent by hand: its status follows its stages', RUNNING while one of them runs and
otherwise FAILED, KILLED or FINISHED by the last run of every stage.
"""

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joslim.errors import JoslimError
from pipelines.terminal.printable import without_logins
from pipelines.tracking.git import revisions
from pipelines.tracking.metric_queue import MetricQueue
from pipelines.tracking.processes import dvc_process, is_alive, is_local, this_process
from pipelines.tracking.store import client, experiment_id, lock, require_server

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

PIPELINE_RUN_VARIABLE = "JOSLIM_PIPELINE_RUN"
"""Environment variable that names the pipeline run a stage belongs to; without it, a run of DVC."""

_PIPELINE_RUN = "joslim.pipeline_run"
_PROCESS = "joslim.process"
_STAGE = "joslim.stage"
_TAG_LENGTH = 5000
_WARNINGS = "warnings"
_METRICS_PER_REQUEST = 1000


class Run:
    """A stage's MLflow run while it is open."""

    def __init__(
        self, run_id: str, parent: str, mlflow_client: "MlflowClient", queue: "MetricQueue[Metric]"
    ) -> None:
        self.run_id = run_id
        self._parent = parent
        self._client = mlflow_client
        self._queue = queue

    def params(self, params: Mapping[str, Any]) -> None:
        """Log params; ``{"training": {"epochs": 4}}`` becomes ``training.epochs``."""
        self._client.log_batch(self.run_id, params=_flat_params(params))

    def metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers of one step; a thread sends them, so that training does not wait."""
        from mlflow.entities import Metric

        now = int(datetime.now().timestamp() * 1000)
        self._queue.add([Metric(name, float(value), now, step) for name, value in metrics.items()])

    def headline(self, metrics: Mapping[str, float]) -> None:
        """Log numbers of this run that its parent shows as well."""
        self.metrics(metrics)
        for name, value in metrics.items():
            self._client.log_metric(self._parent, name, float(value))

    def tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of this run, cut to the length that MLflow keeps."""
        for name, value in tags.items():
            self._client.set_tag(self.run_id, name, value[:_TAG_LENGTH])

    def warnings(self, texts: Sequence[str]) -> None:
        """Note what speaks against this run in its tag ``warnings``, and in its parent's."""
        for run_id in (self.run_id, self._parent) if texts else ():
            before = self._client.get_run(run_id).data.tags.get(_WARNINGS, "").splitlines()
            lines = "\n".join(dict.fromkeys([*before, *texts]))
            self._client.set_tag(run_id, _WARNINGS, lines[:_TAG_LENGTH])

    def artifact(self, path: Path) -> None:
        """Log a file, or a folder under its own name."""
        if path.is_dir():
            self._client.log_artifacts(self.run_id, str(path), path.name)
        else:
            self._client.log_artifact(self.run_id, str(path))


@contextmanager
def stage_run(
    stage: str,
    *,
    params: Mapping[str, Any] | None = None,
    data_digest: str = "none",
    system_metrics: bool = False,
) -> Iterator[Run]:
    """Open a run for ``stage``, nested in the pipeline's run, or in the stage run that is open.

    An exception fails the run and becomes its tag ``error``; Ctrl-C makes it KILLED.

    Args:
        stage: Name of the stage, or of a trial inside a stage.
        params: As for `Run.params`.
        data_digest: Digest of the prepared data.
        system_metrics: Log CPU, memory, disk and network every 10 s.
    """
    try:
        require_server()
    except JoslimError as error:
        warnings.warn(f"{error}. Trying on for some minutes", stacklevel=3)
    mlflow_client, experiment = client(), experiment_id()
    import mlflow
    from mlflow.exceptions import MlflowException

    outer = mlflow.active_run()
    parent = outer.info.run_id if outer else _pipeline_run(mlflow_client, experiment)
    active = mlflow.start_run(
        experiment_id=experiment,
        run_name=stage,
        nested=True,
        parent_run_id=parent,
        log_system_metrics=system_metrics,
        tags={
            _STAGE: stage,
            _PROCESS: this_process(),
            "data.digest": data_digest,
            **revisions(),
        },
    )
    run_id, status = active.info.run_id, "FAILED"

    def log_metrics(metrics: "Sequence[Metric]") -> None:
        mlflow_client.log_batch(run_id, metrics=metrics)

    try:
        with MetricQueue(log_metrics, _METRICS_PER_REQUEST, MlflowException) as queue:
            run = Run(run_id, parent, mlflow_client, queue)
            run.params(params or {})
            yield run
        status = "FINISHED"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            status = "KILLED"
        text = without_logins(f"{type(error).__name__}: {error}")
        mlflow_client.set_tag(run_id, "error", text[:_TAG_LENGTH])
        raise
    finally:
        mlflow.end_run(status)
        if outer is None:
            with lock():
                _update_status(mlflow_client, experiment, parent)


def _pipeline_run(mlflow_client: "MlflowClient", experiment: str) -> str:
    """The parent run of this pipeline run, RUNNING; created by the first stage that asks."""
    key = os.environ.get(PIPELINE_RUN_VARIABLE) or dvc_process() or this_process()
    with lock():
        _close_orphaned_runs(mlflow_client, experiment)
        found = mlflow_client.search_runs([experiment], f"tags.`{_PIPELINE_RUN}` = '{key}'")
        if found:
            mlflow_client.update_run(found[0].info.run_id, status="RUNNING")
            return found[0].info.run_id
        created = mlflow_client.create_run(
            experiment,
            run_name=f"{datetime.now():%d %b %H:%M} pipeline",
            tags={_PIPELINE_RUN: key, **revisions()},
        )
        return created.info.run_id


def _close_orphaned_runs(mlflow_client: "MlflowClient", experiment: str) -> None:
    """End the stages of this machine that are RUNNING although their process is gone."""
    running = mlflow_client.search_runs([experiment], "attributes.status = 'RUNNING'")
    for run in running:
        process = run.data.tags.get(_PROCESS, "")
        if is_local(process) and not is_alive(process):
            mlflow_client.set_terminated(run.info.run_id, "KILLED")
    for run in running:
        if _PIPELINE_RUN in run.data.tags:
            _update_status(mlflow_client, experiment, run.info.run_id)


def _update_status(mlflow_client: "MlflowClient", experiment: str, parent: str) -> None:
    stages = mlflow_client.search_runs(
        [experiment], f"tags.mlflow.parentRunId = '{parent}'", order_by=["attributes.start_time"]
    )
    last = {run.data.tags[_STAGE]: run.info.status for run in stages}
    statuses = set(last.values()) or {"KILLED"}
    worst = next((s for s in ("RUNNING", "FAILED", "KILLED") if s in statuses), "FINISHED")
    if worst != "RUNNING":
        mlflow_client.set_terminated(parent, worst)


def _flat_params(params: Mapping[str, Any]) -> list[Any]:
    from mlflow.entities import Param

    flat: dict[str, Any] = {}
    pending = list(params.items())
    while pending:
        name, value = pending.pop(0)
        if isinstance(value, Mapping) and value:
            pending += [(f"{name}.{key}", inner) for key, inner in value.items()]
        else:
            flat[name] = value
    # MLflow's names have no "@", as of ``latency@pi5``.
    return [Param(name.replace("@", ":"), str(value)) for name, value in flat.items()]
