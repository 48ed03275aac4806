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

from filelock import FileLock
from prefect.settings import PREFECT_HOME

from joslim.errors import JoslimError
from pipelines.flow.end_with_parent import END_WITH_PARENT
from pipelines.settings import paths

HOST = "127.0.0.1"
PORTS = range(4200, 4300)
"""The first is Prefect's usual one, for the sake of bookmarks; others where it is taken."""
START_SECONDS = 120
STOP_SECONDS = 5


class ServerError(JoslimError, RuntimeError):
    """A Prefect server that does not start."""


class TemporaryServer:
    """Prefect's API and UI on the loopback interface, over Prefect's usual database.

    Its port is its own from the first moment on. It starts while the caller goes on. Ctrl-C does
    not reach it: it ends with this process, after Prefect's threads, which send it their last
    records at exit.
    """

    def __init__(self) -> None:
        # Two that start at once would both bring an old database up to date, and one would fail.
        self._starting = FileLock(PREFECT_HOME.value() / "joslim-server-starts.lock")
        self._starting.acquire()
        listening = _listen()
        port = listening.getsockname()[1]
        self.url = f"http://{HOST}:{port}"
        self._log = paths.root() / paths.STATE / f"prefect-server-{port}.log"
        self._log.parent.mkdir(exist_ok=True)
        uvicorn = (
            *(sys.executable, "-m", "uvicorn", "--fd", str(listening.fileno())),
            *("--timeout-graceful-shutdown", "1"),
        )
        with listening, self._log.open("w") as log:
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
                pass_fds=[listening.fileno()],
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
            except OSError:
                time.sleep(0.05)
            else:
                self._starting.release()
                return self.url
        raise ServerError(f"Prefect's server has not started at {self.url}; see {self._log}")

    def _stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _listen() -> socket.socket:
    """A socket that listens on the first free port.

    Raises:
        ServerError: If none is free.
    """
    for port in PORTS:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
            listening.listen()  # only now can no other have it
        except OSError:
            listening.close()
        else:
            return listening
    raise ServerError(f"no port from {PORTS[0]} to {PORTS[-1]} is free on {HOST}")
