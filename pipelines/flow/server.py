"""A Prefect server for as long as this process lives, for users who have not set one up."""

import atexit
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress

from joslim.errors import JoslimError
from pipelines.flow.end_with_parent import END_WITH_PARENT
from pipelines.settings import paths

HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 5


class ServerError(JoslimError, RuntimeError):
    """A Prefect server that does not start."""


class TemporaryServer:
    """Prefect's API and UI on the loopback interface, over Prefect's usual database.

    It starts while the caller goes on. Ctrl-C does not reach it: it ends with this process, after
    Prefect's threads, which send it their last records at exit.
    """

    def __init__(self) -> None:
        port = _free_port()
        self.url = f"http://{HOST}:{port}"
        self._log = paths.root() / paths.STATE / "prefect-server.log"
        self._log.parent.mkdir(exist_ok=True)
        uvicorn = (
            *(sys.executable, "-m", "uvicorn", "--host", HOST, "--port", str(port)),
            *("--timeout-graceful-shutdown", "1"),
        )
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*END_WITH_PARENT, *uvicorn, "--factory", "prefect.server.api.server:create_app"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PREFECT__SERVER_FINAL": "1",
                    "PREFECT_UI_API_URL": f"{self.url}/api",
                },
                start_new_session=True,
            )
        atexit.register(self._stop)

    def wait(self) -> str:
        """Return the server's address when it answers.

        Raises:
            ServerError: If it has ended, or does not answer in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.url}/api/health", timeout=5).close()
                return self.url
            except OSError:
                time.sleep(0.05)
        raise ServerError(f"Prefect's server has not started at {self.url}; see {self._log}")

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _free_port() -> int:
    """Prefect's usual port, for the sake of bookmarks; any other if that one is taken."""
    for port in (4200, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise ServerError(f"no port is free on {HOST}")
