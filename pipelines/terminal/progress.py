"""How far a stage is: a bar on a terminal, lines in a log, records for a program that watches."""

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

from rich import progress as bars

from pipelines.terminal.console import console
from pipelines.terminal.printable import one_line

Item = TypeVar("Item")

RECORDS_VARIABLE = "JOSLIM_PROGRESS_RECORDS"
"""Environment variable; if set, progress is printed as records for `Progress.decode`."""

SECONDS_BETWEEN_LINES = 15.0
ROOM_FOR_BAR = 50
"""Characters of a line that a bar, its numbers and the time left take."""
_SECONDS_BETWEEN_RECORDS = 0.2
_RECORD = "@progress "


@dataclass(frozen=True)
class Progress:
    """How far a piece of work is.

    Attributes:
        title: What the work is.
        done: Items done.
        total: Items in all.
        seconds_left: Estimated from the items since the first; None while there is only that.
        text: About the latest item.
    """

    title: str
    done: int
    total: int
    seconds_left: float | None
    text: str

    def __str__(self) -> str:
        left = "" if self.seconds_left is None else f"{self.seconds_left:.0f} s left"
        told = [f"{self.title}: {self.done}/{self.total}", left, self.text]
        return ", ".join(filter(None, told))

    def encode(self) -> str:
        """One line for `decode`."""
        return _RECORD + json.dumps(asdict(self))

    @classmethod
    def decode(cls, line: str) -> "Progress | None":
        """What `encode` made; None for any other line."""
        found = line.startswith(_RECORD)
        return cls(**json.loads(line.removeprefix(_RECORD))) if found else None


Show = Callable[[Progress], None]


def track(
    items: Iterable[Item],
    title: str,
    total: int = 0,
    *,
    describe: Callable[[Item], str] = lambda _: "",
    position: Callable[[Item], tuple[int, int]] | None = None,
) -> Iterator[Item]:
    """Yield ``items`` and show how many are done.

    Args:
        items: What is worked on; an item counts as done when the next one is asked for.
        title: What the work is.
        total: Number of items.
        describe: Text about the latest item.
        position: Items done, of how many, as the latest item tells it; None counts them.
    """
    first: tuple[float, int] | None = None
    with _output(title) as show:
        for count, item in enumerate(items, start=1):
            yield item
            done, total = position(item) if position else (count, total)
            now, left = time.monotonic(), None
            if first is not None:
                left = (now - first[0]) / (done - first[1]) * (total - done)
            first = first or (now, done)
            show(Progress(title, done, total, left, describe(item)))


def fitting(text: str, room: int) -> str:
    """As many parts of ``text``, divided by commas, as ``room`` characters hold."""
    while text and len(text) > room:
        text = text.rpartition(", ")[0]
    return text


def at_most_every(seconds: float, show: Show) -> Show:
    """``show`` with calls left out that come too soon after another, but never the last."""
    last = -math.inf

    def paced(progress: Progress) -> None:
        nonlocal last
        if progress.done == progress.total or time.monotonic() - last >= seconds:
            last = time.monotonic()
            show(progress)

    return paced


@contextmanager
def _output(title: str) -> Iterator[Show]:
    if os.environ.get(RECORDS_VARIABLE):
        yield at_most_every(_SECONDS_BETWEEN_RECORDS, lambda p: print(p.encode(), flush=True))
    elif not console.is_terminal:
        yield at_most_every(SECONDS_BETWEEN_LINES, lambda p: print(one_line(p), flush=True))
    else:
        columns = (
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=None),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("left {task.fields[text]}", markup=False),
        )
        with bars.Progress(*columns, console=console, expand=True) as drawn:
            task = drawn.add_task(one_line(title), total=None, text="")
            room = console.width - len(title) - ROOM_FOR_BAR

            def update(p: Progress) -> None:
                text = fitting(one_line(p.text), room)
                drawn.update(task, completed=p.done, total=p.total, text=text)

            yield update
