"""One DVC stage as a process: its output as it comes, its end, its error in its own words."""

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path
from typing import Literal

from joslim.errors import JoslimError
from pipelines.flow.end_with_parent import END_WITH_PARENT
from pipelines.settings import paths
from pipelines.terminal.printable import printable
from pipelines.terminal.progress import RECORDS_VARIABLE, Progress

GRACE_SECONDS = 10.0

_DVC = (*END_WITH_PARENT, sys.executable, "-m", "dvc", "--wait-for-lock")
_LONGEST_LINE = 1 << 20
_UNCHANGED = re.compile(r"^Stage '(.+)' didn't change, skipping$", re.MULTILINE)
_CHATTER = re.compile(
    r"Running stage '|Stage '.*' (didn't change|is cached)|(Generating|Updating) lock file"
    r"|Data and pipelines are up to date|Use `dvc push`|To track the changes with git"
    r"|To enable auto staging|\tgit add |\tdvc config core.autostage|> python -m pipelines\."
)
_DVC_FAILED = re.compile(r"ERROR: failed to reproduce '.*?': ")
_KILLED = re.compile(r"failed to run: (.*), exited with (-9|137)$")
_ERROR = re.compile(r"[\w.]*(error|exception|interrupt)(:|$)", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last):"


Outcome = Literal["ran", "restored", "unchanged"]
"""Of a stage: restored if DVC had its results in its cache, but others were in place."""


class StageError(JoslimError, RuntimeError):
    """A stage that failed; the text is the stage's own."""


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
    """Have DVC bring one stage up to date.

    Args:
        stage: Name as in dvc.yaml, such as ``finetune@tiny``.
        variables: Environment variables for the stage, beside this process's own.
        on_line: Called with every line of the stage's output.
        on_progress: Called when the stage says how far it is.

    Raises:
        StageError: If the stage fails.

    When cancelled, the stage and everything that it started has ended before this returns.
    """
    process = await _start({RECORDS_VARIABLE: "1", **variables}, "repro", "-s", stage)
    assert process.stdout is not None
    assert process.stderr is not None
    outcome: Outcome = "restored"
    complaints: deque[str] = deque(maxlen=200)

    async def read(stream: asyncio.StreamReader) -> None:
        nonlocal outcome
        async for raw in stream:
            line = printable(raw.decode(errors="replace").rstrip())
            if line.startswith(f"Running stage '{stage}'"):
                outcome = "ran"
            elif (unchanged := _UNCHANGED.match(line)) and unchanged[1] == stage:
                outcome = "unchanged"
            if (progress := Progress.decode(line)) is not None:
                on_progress(progress)
            elif line and not _CHATTER.match(line):
                on_line(line)
                complaints.extend([line] if stream is process.stderr else [])

    try:
        await asyncio.gather(read(process.stdout), read(process.stderr))
        if await process.wait():
            raise StageError(_reason(list(complaints)))
        return outcome
    finally:
        await _end_group(process)


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


def _reason(lines: list[str]) -> str:
    """The exception's message; without an exception, the last that the stage and DVC said."""
    end = next((i for i, line in enumerate(lines) if _DVC_FAILED.match(line)), len(lines))
    own, dvc = lines[:end], [_DVC_FAILED.sub("", line) for line in lines[end:]]
    for line in dvc:
        if killed := _KILLED.match(line):
            return f"{killed[1]} was killed; often the machine has run out of memory"
    if _TRACEBACK in own:
        after = len(own) - own[::-1].index(_TRACEBACK)
        message = list(dropwhile(lambda line: line.startswith(" "), own[after:]))
    else:
        starts = [i for i, line in enumerate(own) if _ERROR.match(line)]
        message = own[starts[-1] :] if starts else []
    return "\n".join(message[:10] or [*own[-3:], *dvc])
