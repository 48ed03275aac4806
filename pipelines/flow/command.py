"""Run the pipeline once, or serve it to a schedule and to Prefect's UI."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from joslim.errors import JoslimError
from pipelines import tracking
from pipelines.settings import paths
from pipelines.settings.loading import read_params
from pipelines.terminal.console import complain, console
from pipelines.tracking.reachable import require_answer

if TYPE_CHECKING:
    from prefect.states import State

# Prefect and PyTorch are imported inside functions: Prefect reads its settings when it is imported,
# and both take seconds that the server needs as well, to start.

_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}


def main() -> int:
    """Run or serve the flow; returns the exit code."""
    arguments = _arguments()
    os.chdir(paths.root())
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    if console.is_terminal and not arguments.serve:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    # A shell's background jobs ignore it, and so would the stages, which it ends.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        read_params()
        return _serve(arguments.cron) if arguments.serve else _run()
    except JoslimError as error:
        complain("error", error)
        return 1
    except KeyboardInterrupt:
        complain("interrupted", "the next run goes on where this one stopped")
        return 128 + signal.SIGINT


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipelines.flow", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="wait for runs from Prefect's UI")
    parser.add_argument("--cron", help='with --serve: also run at these times, as "0 2 * * *"')
    arguments = parser.parse_args()
    if arguments.cron and not arguments.serve:
        parser.error("--cron needs --serve")
    return arguments


def _run() -> int:
    tracking.require_server()
    with _server() as wait:
        from prefect.exceptions import TerminationSignal

        from pipelines.flow import results
        from pipelines.flow.pipeline import pipeline
        from pipelines.settings.loading import load_params

        budgets = load_params().budgets
        wait()
        try:
            state: State = asyncio.run(pipeline(return_state=True))  # type: ignore[arg-type]
        except TerminationSignal as terminated:
            sys.exit(128 + terminated.signal)
    if state.is_cancelled():
        raise KeyboardInterrupt
    if not state.is_completed():
        complain("error", state.message or state.name or "failed")
        return 1
    results.show(console, budgets)
    return 0


def _serve(cron: str | None) -> int:
    with _server() as wait:
        from pipelines.flow.serving import require_schedule, serve
        from pipelines.settings.loading import load_params

        if cron:
            require_schedule(cron)
        load_params()
        wait()
        serve(console, cron)
    return 0


@contextmanager
def _server() -> Iterator[Callable[[], None]]:
    """Use the Prefect server that is configured, or else one of our own; yield a wait for it."""
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

    if configured := PREFECT_API_URL.value():
        require_answer("PREFECT_API_URL", configured, "let the flow start its own")
        yield lambda: None
        return
    from pipelines.flow.server import TemporaryServer

    server = TemporaryServer()

    def wait() -> None:
        console.print(f"Prefect's UI, while this runs: {server.wait()}", style="dim")

    with temporary_settings({PREFECT_API_URL: f"{server.url}/api", PREFECT_UI_URL: server.url}):
        yield wait
