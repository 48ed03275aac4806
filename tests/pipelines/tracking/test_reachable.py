from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from joslim.errors import JoslimError
from pipelines import tracking
from pipelines.tracking.reachable import require_answer

CLOSED = "http://127.0.0.1:1"


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers every request with 401, and what it was asked for."""
    asked: list[str] = []

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refuse) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_server_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", CLOSED)
    with pytest.raises(JoslimError, match=r"MLFLOW_TRACKING_URI names a server that does not"):
        tracking.require_server()
    with pytest.raises(JoslimError, match=r"PREFECT_API_URL names a server that does not answer"):
        require_answer("PREFECT_API_URL", f"{CLOSED}/api", "start one")


def test_an_address_without_a_scheme_is_told() -> None:
    with pytest.raises(
        JoslimError, match=r"PREFECT_API_URL is '127.0.0.1:4200/api'; expected http"
    ):
        require_answer("PREFECT_API_URL", "127.0.0.1:4200/api", "start one")


def test_a_server_that_asks_for_a_login_is_there(
    refusing: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = refusing
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    tracking.require_server()
    with_login = address.replace("//", "//joe:secret@")
    require_answer("PREFECT_API_URL", f"{with_login}/api/", "start one")
    assert asked == ["/health", "/api/health"]


def test_the_checkouts_own_database_needs_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking.uri().startswith("sqlite:///")
    tracking.require_server()


@pytest.mark.parametrize("address", ["htp://127.0.0.1:5000", "postgresql+nothing://x/y"])
def test_a_store_that_mlflow_does_not_know_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with pytest.raises(JoslimError, match=r"MLflow cannot use the store that MLFLOW_TRACKING_URI"):
        tracking.require_server()
