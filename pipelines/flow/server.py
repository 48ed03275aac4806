"""A Prefect server for as long as this process lives, for users who have not set one up."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from types import TracebackType

from joslim.errors import JoslimError
from pipelines import paths

HOST = "127.0.0.1"
START_SECONDS = 120
STOP_SECONDS = 5


class ServerError(JoslimError, RuntimeError):
    """A Prefect server that does not start."""


class TemporaryServer:
    """Prefect's API and UI on the loopback interface, over Prefect's usual database.

    It starts while the caller goes on; `wait` until it answers. It is in a session of its own, so
    that Ctrl-C reaches the flow and not its server, and it ends with the caller, however that ends:
    its standard input is a pipe from the caller.
    """

    def __init__(self) -> None:
        self.url = f"http://{HOST}:{_free_port()}"
        self._log = paths.root() / paths.STATE / "prefect-server.log"

    def __enter__(self) -> "TemporaryServer":
        port = self.url.rpartition(":")[2]
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, port],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=os.environ | {"PREFECT_UI_API_URL": f"{self.url}/api"},
                start_new_session=True,
            )
        return self

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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _free_port() -> int:
    """Prefect's usual port if nobody has it, for the sake of bookmarks; else any."""
    for port in (4200, 0):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    raise ServerError(f"no port is free on {HOST}")


def main() -> None:
    import uvicorn
    from prefect.server.api.server import create_app

    app, port = create_app(final=True), int(sys.argv[1])
    server = uvicorn.Server(uvicorn.Config(app, host=HOST, port=port, log_level="error"))

    def stop_with_parent() -> None:
        while os.read(0, 1):
            pass
        server.should_exit = True

    threading.Thread(target=stop_with_parent, daemon=True).start()
    server.run()


if __name__ == "__main__":
    main()
