"""One DVC stage as a process: its output as it comes, its end, its error in its own words."""

import asyncio
import codecs
import fcntl
import os
import pty
import re
import signal
import struct
import sys
import termios
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from itertools import dropwhile
from pathlib import Path

from joslim.errors import JoslimError
from pipelines import paths
from pipelines.flow.terminal import Screen, plain
from pipelines.flow.warden import WARDEN

GRACE_SECONDS = 10.0

_DVC = (*WARDEN, sys.executable, "-m", "dvc", "--wait-for-lock")
_UNCHANGED = re.compile(r"^Stage '(.+)' didn't change, skipping$", re.MULTILINE)
_CHATTER = re.compile(
    r"Running stage '|Stage '.*' (didn't change|is cached)|(Generating|Updating) lock file"
    r"|Data and pipelines are up to date|Use `dvc push`|To track the changes with git"
    r"|To enable auto staging|\tgit add |\tdvc config core.autostage"
)
_DVC_FAILED = re.compile(r"ERROR: failed to reproduce '.*?': ")
_ERROR = re.compile(r"[\w.]*(error|exception|interrupt)(:|$)", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last):"


class StageError(JoslimError, RuntimeError):
    """A stage that failed; the text is the stage's own."""


async def unchanged() -> set[str]:
    """Stages that DVC would not run if it was asked for them alone, by one call for all."""
    process = await asyncio.create_subprocess_exec(
        *(*_DVC, "repro", "--dry"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=_environment({}),
        cwd=paths.root(),
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        await _end_group(process)
    return set(_UNCHANGED.findall(output.decode()))


async def reproduce(
    stage: str,
    variables: Mapping[str, str],
    on_line: Callable[[str], None],
    on_redraw: Callable[[Sequence[str]], None],
    columns: int | None = None,
) -> bool:
    """Have DVC bring one stage up to date.

    Args:
        stage: Name as in dvc.yaml, such as ``finetune@tiny``.
        variables: Environment variables for the stage, beside this process's own.
        on_line: Called with every finished line of the stage's output.
        on_redraw: Called with the rows that the stage is still redrawing.
        columns: Width of the terminal that the stage shall draw on; None for plain lines.

    Returns:
        Whether the stage ran; False if nothing had changed or DVC had the result in its cache.

    Raises:
        StageError: If the stage fails.

    When cancelled, the stage and everything that it started has ended before this returns.
    """
    output, errors = _terminal(columns) if columns else os.pipe(), os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *(*_DVC, "repro", "-s", stage),
            stdin=asyncio.subprocess.PIPE,
            stdout=output[1],
            stderr=errors[1],
            env=_environment(variables),
            cwd=paths.root(),
            start_new_session=True,
        )
    finally:
        os.close(output[1])
        os.close(errors[1])
    ran = False
    complaints: deque[str] = deque(maxlen=200)
    drawn: dict[int, Sequence[str]] = {}

    async def read(stream: int) -> None:
        nonlocal ran
        async for lines, rows in _read(stream):
            drawn[stream] = rows
            on_redraw([row for rows in drawn.values() for row in rows])
            for line in lines:
                text = plain(line)
                ran |= text.startswith(f"Running stage '{stage}'")
                if not _CHATTER.match(text):
                    on_line(line)
                    complaints.extend([text] if stream == errors[0] else [])

    try:
        # DVC draws bars of its own if its errors go to a terminal, so they never do.
        await asyncio.gather(read(output[0]), read(errors[0]))
        if await process.wait():
            raise StageError(_reason(list(complaints)))
        return ran
    finally:
        await _end_group(process)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """This process's, such that `python` in dvc.yaml is this Python."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
        "DVC_NO_ANALYTICS": "1",
        **variables,
    }


def _terminal(columns: int) -> tuple[int, int]:
    """A pseudo-terminal that passes output on unchanged: ends to read from and to write to."""
    reader, writer = pty.openpty()
    attributes = termios.tcgetattr(writer)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(writer, termios.TCSANOW, attributes)
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return reader, writer


async def _read(pipe: int) -> AsyncIterator[tuple[list[str], list[str]]]:
    """Read to the end: lines as they are finished, and the rows that are still redrawn."""
    screen = Screen()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(pipe, "rb", buffering=0)
    )
    try:
        # Reading a terminal whose other end is closed is an error, not an end of file.
        with suppress(OSError):
            while output := await stream.read(1 << 16):
                yield screen.feed(decoder.decode(output)), screen.rows
    finally:
        transport.close()
    yield screen.close(), screen.rows


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
    if _TRACEBACK in own:
        after = len(own) - own[::-1].index(_TRACEBACK)
        message = list(dropwhile(lambda line: line.startswith(" "), own[after:]))
    else:
        starts = [i for i, line in enumerate(own) if _ERROR.match(line)]
        message = own[starts[-1] :] if starts else []
    return "\n".join(message[:10] or [*own[-3:], *dvc])
