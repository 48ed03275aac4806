"""One DVC stage as a process: its output as it comes, its end, its error in its own words."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from pipelines.flow.complaints import BusyError, Complaints
from pipelines.flow.complaints import StageError as StageError
from pipelines.flow.end_with_parent import END_WITH_PARENT
from pipelines.settings import paths
from pipelines.terminal.printable import printable
from pipelines.terminal.progress import RECORDS_VARIABLE, Progress

GRACE_SECONDS = 10.0
BUSY_SECONDS = 5.0
"""Between two looks whether another DVC has left what a stage reads and writes."""

_DVC = (*END_WITH_PARENT, sys.executable, "-m", "dvc", "--wait-for-lock")
_LONGEST_LINE = 1 << 20
_UNCHANGED = re.compile(r"^Stage '(.+)' didn't change, skipping$", re.MULTILINE)
_CHATTER = re.compile(
    r"Running stage '|Stage '.*' (didn't change|is cached)|(Generating|Updating) lock file"
    r"|Data and pipelines are up to date|Use `dvc push`|To track the changes with git"
    r"|To enable auto staging|\tgit add |\tdvc config core.autostage|> python -m pipelines\."
)

Outcome = Literal["ran", "restored", "unchanged"]
"""Of a stage: restored if DVC had its results in its cache, but others were in place."""


async def unchanged() -> set[str]:
    """Stages that DVC would not run if it was asked for them alone, by one call for all."""
    process = await _start({}, "repro", "--dry")
    try:
        output, _ = await process.communicate()
    finally:
        await _end_group(process)
    return set(_UNCHANGED.findall(output.decode()))


async def reproduce(
    stage: str,
    variables: Mapping[str, str],
    on_line: Callable[[str], None],
    on_progress: Callable[[Progress], None],
) -> Outcome:
    """Have DVC bring one stage up to date, after any other DVC that is working on it.

    Args:
        stage: Name as in dvc.yaml, such as ``finetune@tiny``.
        variables: Environment variables for the stage, beside this process's own.
        on_line: Called with every line of the stage's output, but for those of the error that it
            fails with.
        on_progress: Called when the stage says how far it is.

    Raises:
        StageError: If the stage fails.

    When cancelled, the stage and everything that it started has ended before this returns.
    """
    blocker = ""
    while True:
        try:
            return await _attempt(stage, variables, on_line, on_progress)
        except BusyError as busy:
            if str(busy) != blocker:
                blocker = str(busy)
                on_line(f"waiting for another DVC, {blocker}")
            await asyncio.sleep(BUSY_SECONDS)


async def _attempt(
    stage: str,
    variables: Mapping[str, str],
    on_line: Callable[[str], None],
    on_progress: Callable[[Progress], None],
) -> Outcome:
    process = await _start({RECORDS_VARIABLE: "1", **variables}, "repro", "-s", stage)
    outcome: Outcome = "restored"
    complaints = Complaints(on_line)

    async def listen() -> None:
        nonlocal outcome
        async for line in _lines(process.stdout):
            if line.startswith(f"Running stage '{stage}'"):
                outcome = "ran"
            elif (unchanged := _UNCHANGED.match(line)) and unchanged[1] == stage:
                outcome = "unchanged"
            if _CHATTER.match(line):
                continue
            complaints.release()
            if (progress := Progress.decode(line)) is not None:
                on_progress(progress)
            else:
                on_line(line)

    async def listen_to_complaints() -> None:
        async for line in _lines(process.stderr):
            complaints.add(line)

    try:
        await asyncio.gather(listen(), listen_to_complaints())
        if await process.wait():
            raise complaints.error()
        complaints.release()
        return outcome
    finally:
        await _end_group(process)


async def _lines(stream: asyncio.StreamReader | None) -> AsyncIterator[str]:
    assert stream is not None, "is a pipe"
    async for raw in stream:
        if line := printable(raw.decode(errors="replace").rstrip()):
            yield line


async def _start(variables: Mapping[str, str], *arguments: str) -> asyncio.subprocess.Process:
    """Start DVC in a process group of its own, such that `python` in dvc.yaml is this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    own = {"PATH": path, "PYTHONUNBUFFERED": "1", "DVC_NO_ANALYTICS": "1"}
    return await asyncio.create_subprocess_exec(
        *_DVC,
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LONGEST_LINE,
        env={**os.environ, **own, **variables},
        cwd=paths.root(),
        start_new_session=True,
    )


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """Interrupt what still runs; kill what does not leave in time."""
    with suppress(ProcessLookupError):
        try:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGINT)
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), GRACE_SECONDS)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
