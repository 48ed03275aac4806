"""Whether a server that the user has named is there."""

import ssl
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from joslim.errors import JoslimError
from pipelines.terminal.printable import without_logins

TIMEOUT_SECONDS = 20


def require_answer(variable: str, address: str, otherwise: str) -> None:
    """Ask the server at ``address`` for its health, as MLflow's and Prefect's can tell.

    Args:
        variable: That names the server, for the error.
        address: Where the path ``/health`` is.
        otherwise: What happens if ``variable`` is not set, for the error.

    Raises:
        JoslimError: If nothing answers, or ``address`` is none.
    """
    shown = without_logins(address).rstrip("/")
    if not shown.startswith(("http://", "https://")):
        raise JoslimError(f"{variable} is '{shown}'; expected http:// or https://, then the host")
    _require_host(variable, shown)
    try:
        urlopen(f"{shown}/health", timeout=TIMEOUT_SECONDS).close()
    except HTTPError:
        pass  # it answers; whether it lets us in is for its own client, which knows the login
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, URLError) and isinstance(error.reason, ssl.SSLError):
            return  # likewise: the client may have other certificates
        raise JoslimError(
            f"{variable} names a server that does not answer: {error}; start it, or unset the "
            f"variable to {otherwise}"
        ) from error


def _require_host(variable: str, address: str) -> None:
    """Refuse a host or port that is none, without its text: it may be a part of a password."""
    try:
        is_one = bool(urlsplit(address).hostname) and urlsplit(address).port != 0
    except ValueError:
        is_one = False
    if not is_one:
        raise JoslimError(
            f"{variable} has a host or a port that is none; in a password, / is written as %2F, "
            "? as %3F and # as %23"
        )
