"""MLflow's records, read without importing MLflow where possible: that import alone takes over 2 s.

There are three ways to the same records: the REST API of a plain HTTP server, the tables of the
embedded sqlite database, and for everything else (other databases, other logins) MLflow's client.
"""

import os
from pathlib import Path

from pipelines import tracking
from pipelines.records.types import LoggedModel as LoggedModel
from pipelines.records.types import NotRegisteredError as NotRegisteredError
from pipelines.records.types import Query as Query
from pipelines.records.types import Records as Records
from pipelines.records.types import RegisteredModel as RegisteredModel
from pipelines.records.types import RegistryError as RegistryError


def connect() -> Records:
    """The fastest way to read the records at `tracking.uri`.

    Raises:
        NotRegisteredError: If that is the embedded database and it does not exist.
    """
    uri = tracking.uri()
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///"))
        if not path.is_file():
            raise NotRegisteredError(
                f"no registry at {path}; expected a finished pipeline (`dvc repro`) there, "
                "or MLFLOW_TRACKING_URI set to where one is"
            )
        from pipelines.records.database import Database

        return Database(path)
    if uri.startswith(("http://", "https://")):
        from pipelines.records.server import LOGIN_VARIABLES, Server

        known = {"MLFLOW_TRACKING_URI", *LOGIN_VARIABLES}
        if all(name in known for name in os.environ if name.startswith("MLFLOW_TRACKING_")):
            return Server(uri)
    from pipelines.records.client import Client

    return Client()
