"""Servers that the user has named: if one is not there, it is told before any work starts."""

import ssl
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from joslim.errors import JoslimError
from pipelines import tracking

TIMEOUT_SECONDS = 20


def require_mlflow() -> None:
    """Look whether MLflow's server, or another store, can be used.

    Raises:
        JoslimError: If no server answers, or MLflow does not know such a store.
    """
    scheme = urlsplit(tracking.uri()).scheme
    if scheme in ("http", "https"):
        _require("MLFLOW_TRACKING_URI", tracking.uri(), "use mlflow.db in the checkout")
    elif scheme != "sqlite":
        tracking.client()


def require_prefect(api_url: str) -> None:
    """Look whether Prefect's server answers.

    Raises:
        JoslimError: If it does not.
    """
    _require("PREFECT_API_URL", api_url, "let the flow start a server of its own")


def _require(variable: str, address: str, otherwise: str) -> None:
    url = urlsplit(address)
    without_login = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl().rstrip("/")
    try:
        urlopen(f"{without_login}/health", timeout=TIMEOUT_SECONDS).close()
    except HTTPError:
        pass  # it answers; whether it lets us in is for its own client, which knows the login
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError):
            return  # likewise: the client may have other certificates
        raise JoslimError(
            f"{variable} names a server that does not answer: {error}; start it, or unset the "
            f"variable to {otherwise}"
        ) from error
