"""Where MLflow's records are, and how this process reaches them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from filelock import FileLock

from joslim.errors import JoslimError
from pipelines.settings import paths
from pipelines.terminal.printable import without_logins
from pipelines.tracking.reachable import require_answer

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "joslim"
_SERVERS = ("http://", "https://")
_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


def uri() -> str:
    """Where MLflow's records are: ``MLFLOW_TRACKING_URI``, else a database in the checkout.

    A server's address comes without the login that the variable may have; that of a database keeps
    it, as there is no other way to it.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{paths.kept() / 'mlflow.db'}"
    return without_logins(address) if address.startswith(_SERVERS) else address


def require_server() -> None:
    """Look whether the server at `uri`, or another store, can be used.

    Raises:
        JoslimError: If no server answers, or MLflow does not know such a store.
    """
    if uri().startswith(_SERVERS):
        require_answer("MLFLOW_TRACKING_URI", uri(), "use mlflow.db in the checkout")
    elif not uri().startswith("sqlite:"):
        client()


def configure() -> str:
    """Make MLflow ready for this process, creating the embedded database if it is not there.

    Returns:
        The tracking URI, absolute.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    _move_login()
    import mlflow

    embedded = paths.kept() / "mlflow.db"
    if uri() == f"sqlite:///{embedded}" and not embedded.exists():
        with lock():
            if not embedded.exists():
                _create(embedded)
    mlflow.set_tracking_uri(uri())
    return uri()


def _move_login() -> None:
    """Hand MLflow a server's login by the variables that it has for it.

    MLflow writes the whole address into errors and logs, of which nobody expects a password.
    """
    address = os.environ.get("MLFLOW_TRACKING_URI") or ""
    if address == uri() or not address.startswith(_SERVERS):
        return
    url = urlsplit(address)
    if url.password:
        os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(url.username or "")
        os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(url.password)
        os.environ["MLFLOW_TRACKING_URI"] = uri()


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
        reason = without_logins(error).strip()
        raise JoslimError(f"MLflow cannot use {store}: {reason}") from error


def experiment_id() -> str:
    """The experiment of all pipeline runs and models; created, or restored if it was deleted.

    Raises:
        JoslimError: If MLflow does not answer after its own retries, or the checkout was moved
            since its embedded database was made.
    """
    mlflow_client = client()
    from mlflow.exceptions import MlflowException

    artifacts = paths.kept() / "mlruns"
    with lock():
        try:
            experiment = mlflow_client.get_experiment_by_name(EXPERIMENT)
        except MlflowException as error:
            raise JoslimError(f"MLflow does not answer: {error}") from error
        if experiment is None:
            location = str(artifacts) if uri().startswith("sqlite:") else None
            return mlflow_client.create_experiment(EXPERIMENT, artifact_location=location)
        if experiment.lifecycle_stage == "deleted":
            mlflow_client.restore_experiment(experiment.experiment_id)
    embedded = uri() == f"sqlite:///{paths.kept() / 'mlflow.db'}"
    if embedded and Path(experiment.artifact_location) != artifacts:
        raise JoslimError(
            f"mlflow.db keeps its files in {experiment.artifact_location}; expected {artifacts}. "
            "Move the checkout back, or delete mlflow.db and mlruns: `dvc repro register` fills "
            "the registry again"
        )
    return experiment.experiment_id


def lock() -> FileLock:
    """A lock of the checkout, for changes that other processes must not meet half-done."""
    state = paths.kept() / paths.STATE
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
