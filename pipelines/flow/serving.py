"""Serving the flow: runs of it start by a schedule and from Prefect's UI, one at a time."""

import asyncio
import signal
from typing import Any

from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import EntrypointType
from prefect.runner import Runner
from prefect.settings import PREFECT_API_URL
from pydantic import ValidationError
from rich.console import Console

from joslim.errors import JoslimError
from pipelines.flow.pipeline import pipeline


class _Runner(Runner):
    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """Do as at Ctrl-C; Prefect's own cannot stop a run that is about to start."""
        signal.raise_signal(signal.SIGINT)


def require_schedule(cron: str) -> None:
    """Check a schedule.

    Raises:
        JoslimError: If Prefect does not understand it.
    """
    try:
        CronSchedule(cron=cron)
    except ValidationError as error:
        raise JoslimError(
            f"--cron is '{cron}'; expected five fields, minute, hour, day, month and weekday, "
            "as '0 2 * * *'"
        ) from error


def serve(console: Console, cron: str | None) -> None:
    """Wait for runs until interrupted; ``cron`` is when they start by themselves."""
    runner = _Runner(name="joslim", limit=1)
    runner.add_flow(pipeline, "joslim", cron=cron, entrypoint_type=EntrypointType.MODULE_PATH)
    schedule = f"at '{cron}'" if cron else "without a schedule"
    command = f"PREFECT_API_URL={PREFECT_API_URL.value()} prefect deployment run joslim/joslim"
    console.print(f"Serving the flow {schedule}; start a run: {command}", soft_wrap=True)
    asyncio.run(_until_interrupted(runner))


async def _until_interrupted(runner: Runner) -> None:
    """Serve until SIGINT; then the run that is on is cancelled, and those that wait stay."""
    interrupted = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, interrupted.set)
    serving = asyncio.create_task(runner.start())
    waiting = asyncio.create_task(interrupted.wait())
    await asyncio.wait({serving, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if runner.started:
        await runner.astop()
    else:
        serving.cancel()
    while not serving.done():
        await runner.cancel_all()  # of a run that was about to start, the process is there now
        await asyncio.wait({serving}, timeout=0.5)
    if not serving.cancelled():
        serving.result()
