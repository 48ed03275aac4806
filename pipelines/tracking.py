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
from urllib.parse import urlsplit

from filelock import FileLock

from joslim.errors import JoslimError
from pipelines import paths
from pipelines.git import revisions
from pipelines.processes import dvc_process, is_alive, is_local, this_process
from pipelines.reachable import require_answer
from pipelines.sending import Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

EXPERIMENT = "joslim"
PIPELINE_RUN_VARIABLE = "JOSLIM_PIPELINE_RUN"
"""Environment variable that names the pipeline run a stage belongs to; without it, a run of DVC."""

_PIPELINE_RUN = "joslim.pipeline_run"
_PROCESS = "joslim.process"
_STAGE = "joslim.stage"
_TAG_LENGTH = 5000
_METRICS_PER_REQUEST = 1000
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def uri() -> str:
    """Where MLflow's records are: ``MLFLOW_TRACKING_URI``, else a database in the checkout."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{paths.root() / 'mlflow.db'}"


def require_server() -> None:
    """Look whether the server at `uri`, or another store, can be used.

    Raises:
        JoslimError: If no server answers, or MLflow does not know such a store.
    """
    scheme = urlsplit(uri()).scheme
    if scheme in ("http", "https"):
        require_answer("MLFLOW_TRACKING_URI", uri(), "use mlflow.db in the checkout")
    elif scheme != "sqlite":
        client()


def configure() -> str:
    """Make MLflow ready for this process, creating the embedded database if it is not there.

    Returns:
        The tracking URI, absolute.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    import mlflow

    with _lock():
        embedded = paths.root() / "mlflow.db"
        if uri() == f"sqlite:///{embedded}" and not embedded.exists():
            _create(embedded)
    mlflow.set_tracking_uri(uri())
    return uri()


def client() -> "MlflowClient":
    """A client of the configured tracking server.

    Raises:
        JoslimError: If MLflow cannot use `uri`.
    """
    configure()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        return MlflowClient()
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        named = os.environ.get("MLFLOW_TRACKING_URI")
        store = "the store that MLFLOW_TRACKING_URI names" if named else "the checkout's mlflow.db"
        raise JoslimError(f"MLflow cannot use {store}: {str(error).strip()}") from error


def experiment_id() -> str:
    """The experiment of all pipeline runs and models; created, or restored if it was deleted.

    Raises:
        JoslimError: If MLflow does not answer after its own retries, or the checkout was moved
            since its embedded database was made.
    """
    mlflow_client = client()
    from mlflow.exceptions import MlflowException

    artifacts = paths.root() / "mlruns"
    with _lock():
        try:
            experiment = mlflow_client.get_experiment_by_name(EXPERIMENT)
        except MlflowException as error:
            raise JoslimError(f"MLflow does not answer: {error}") from error
        if experiment is None:
            location = str(artifacts) if uri().startswith("sqlite:") else None
            return mlflow_client.create_experiment(EXPERIMENT, artifact_location=location)
        if experiment.lifecycle_stage == "deleted":
            mlflow_client.restore_experiment(experiment.experiment_id)
    embedded = uri() == f"sqlite:///{paths.root() / 'mlflow.db'}"
    if embedded and Path(experiment.artifact_location) != artifacts:
        raise JoslimError(
            f"mlflow.db keeps its files in {experiment.artifact_location}; expected {artifacts}. "
            "Move the checkout back, or delete mlflow.db and mlruns: `dvc repro register` fills "
            "the registry again"
        )
    return experiment.experiment_id


class Run:
    """A stage's MLflow run while it is open."""

    def __init__(
        self, run_id: str, parent: str, mlflow_client: "MlflowClient", sender: "Sender[Metric]"
    ) -> None:
        self.run_id = run_id
        self._parent = parent
        self._client = mlflow_client
        self._sender = sender

    def params(self, params: Mapping[str, Any]) -> None:
        """Log params; ``{"training": {"epochs": 4}}`` becomes ``training.epochs``."""
        self._client.log_batch(self.run_id, params=_flat_params(params))

    def metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log numbers of one step; a thread sends them, so that training does not wait."""
        from mlflow.entities import Metric

        now = int(datetime.now().timestamp() * 1000)
        self._sender.add([Metric(name, float(value), now, step) for name, value in metrics.items()])

    def headline(self, metrics: Mapping[str, float]) -> None:
        """Log numbers of this run that its parent shows as well."""
        self.metrics(metrics)
        for name, value in metrics.items():
            self._client.log_metric(self._parent, name, float(value))

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
        with Sender(log_metrics, _METRICS_PER_REQUEST, MlflowException) as sender:
            run = Run(run_id, parent, mlflow_client, sender)
            run.params(params or {})
            yield run
        status = "FINISHED"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            status = "KILLED"
        text = f"{type(error).__name__}: {error}"
        mlflow_client.set_tag(run_id, "error", text[:_TAG_LENGTH])
        raise
    finally:
        mlflow.end_run(status)
        if outer is None:
            with _lock():
                _follow_stages(mlflow_client, experiment, parent)


def _lock() -> FileLock:
    state = paths.root() / paths.STATE
    state.mkdir(exist_ok=True)
    return FileLock(state / "tracking.lock", is_singleton=True)


def _create(embedded: Path) -> None:
    """Make the database beside its place and move it there, so that a broken one never stands."""
    from mlflow import MlflowClient

    draft = embedded.with_suffix(".draft")
    draft.unlink(missing_ok=True)
    artifacts = str(embedded.parent / "mlruns")
    MlflowClient(f"sqlite:///{draft}").create_experiment(EXPERIMENT, artifact_location=artifacts)
    draft.replace(embedded)


def _pipeline_run(mlflow_client: "MlflowClient", experiment: str) -> str:
    """The parent run of this pipeline run, RUNNING; created by the first stage that asks."""
    key = os.environ.get(PIPELINE_RUN_VARIABLE) or dvc_process() or this_process()
    with _lock():
        _bury_the_dead(mlflow_client, experiment)
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


def _bury_the_dead(mlflow_client: "MlflowClient", experiment: str) -> None:
    """End the stages of this machine that are RUNNING although their process is gone."""
    running = mlflow_client.search_runs([experiment], "attributes.status = 'RUNNING'")
    for run in running:
        process = run.data.tags.get(_PROCESS, "")
        if is_local(process) and not is_alive(process):
            mlflow_client.set_terminated(run.info.run_id, "KILLED")
    for run in running:
        if _PIPELINE_RUN in run.data.tags:
            _follow_stages(mlflow_client, experiment, run.info.run_id)


def _follow_stages(mlflow_client: "MlflowClient", experiment: str, parent: str) -> None:
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
    return [Param(name, str(value)) for name, value in flat.items()]
