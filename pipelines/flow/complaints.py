"""What a stage and DVC say on stderr, and which of it is the error that the stage fails with."""

import re
from collections import deque
from collections.abc import Callable, Collection
from itertools import dropwhile

from joslim.errors import JoslimError

_DVC_FAILED = re.compile(r"ERROR: failed to reproduce '.*?': ")
_KILLED = re.compile(r"failed to run: (.*), exited with (-9|137)$")
_BUSY = re.compile(r"'.*' is busy, it is being blocked by:$")
_BLOCKER = re.compile(r" *\(PID (\d+)\): (?:\S*/dvc(?:/__main__\.py)?)?(.*)")
_ERROR = re.compile(r"[\w.]*(error|exception|interrupt)(:|$)", re.IGNORECASE)
_TRACEBACK = "Traceback (most recent call last):"


class StageError(JoslimError, RuntimeError):
    """A stage that failed; the text is the stage's own."""


class BusyError(JoslimError, RuntimeError):
    """A stage whose files another DVC is at work on; the text names that process."""


class Complaints:
    """Shows lines of stderr, but holds back an error until the stage is seen to go on.

    An error that a stage ends with is told once, by whoever asked for the stage.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=200)
        self._held: list[str] = []

    def add(self, line: str) -> None:
        """Take a line as it comes."""
        self._lines.append(line)
        if self._held or line == _TRACEBACK or _ERROR.match(line):
            self._held.append(line)
        else:
            self._on_line(line)

    def release(self, told: Collection[str] = ()) -> None:
        """Show what was held back, but for lines that are ``told`` elsewhere."""
        for line in self._held:
            if line not in told:
                self._on_line(line)
        self._held.clear()

    def error(self) -> StageError | BusyError:
        """What the stage failed with; shows what else was held back, such as a traceback."""
        lines = list(self._lines)
        if any(map(_BUSY.search, lines)):
            blockers = [found for line in lines if (found := _BLOCKER.fullmatch(line))]
            return BusyError(" and ".join(f"process {b[1]}: dvc{b[2]}" for b in blockers))
        reason = _reason(lines)
        self.release([*reason.splitlines(), *filter(_DVC_FAILED.match, lines)])
        return StageError(reason)


def _reason(lines: list[str]) -> str:
    """The exception's message; without an exception, the last that the stage and DVC said."""
    end = next((i for i, line in enumerate(lines) if _DVC_FAILED.match(line)), len(lines))
    own, dvc = lines[:end], [_DVC_FAILED.sub("", line) for line in lines[end:]]
    for line in dvc:
        if killed := _KILLED.match(line):
            return (
                f"{killed[1]} was killed; often the machine has run out of memory. The next run "
                "goes on where this one stopped"
            )
    if _TRACEBACK in own:
        after = len(own) - own[::-1].index(_TRACEBACK)
        message = list(dropwhile(lambda line: line.startswith(" "), own[after:]))
    else:
        starts = [i for i, line in enumerate(own) if _ERROR.match(line)]
        message = own[starts[-1] :] if starts else []
    return "\n".join(message[:10] or [*own[-3:], *dvc])
