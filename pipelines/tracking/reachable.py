"""Whether a server that the user has named is there."""

import ssl
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

from joslim.errors import JoslimError

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
    url = urlsplit(address)
    if url.scheme not in ("http", "https"):
        raise JoslimError(f"{variable} is '{address}'; expected http:// or https://, then the host")
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
