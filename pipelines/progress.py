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

from pipelines.stage import console

Item = TypeVar("Item")

RECORDS_VARIABLE = "JOSLIM_PROGRESS_RECORDS"
"""Environment variable; if set, progress is printed as records for `Progress.decode`."""

SECONDS_BETWEEN_LINES = 15.0
_SECONDS_BETWEEN_RECORDS = 0.2
_RECORD = "@progress "


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        title: What the work is.
        done: Items done.
        total: Items in all.
        seconds_left: Estimated from the items so far.
        text: About the latest item.
    """

    title: str
    done: int
    total: int
    seconds_left: float
    text: str

    def __str__(self) -> str:
        line = (
            f"{self.title}: {self.done}/{self.total}, {self.seconds_left:.0f} s left, {self.text}"
        )
        return line.rstrip(", ")

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
    start, first = time.monotonic(), None
    with _output(title) as show:
        for count, item in enumerate(items, start=1):
            yield item
            done, total = position(item) if position else (count, total)
            first = done - 1 if first is None else first
            left = (time.monotonic() - start) / (done - first) * (total - done)
            show(Progress(title, done, total, left, describe(item)))


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
        yield at_most_every(SECONDS_BETWEEN_LINES, lambda p: print(p, flush=True))
    else:
        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(bar_width=None),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("left {task.fields[text]}"),
        )
        with bars.Progress(*columns, console=console, expand=True) as drawn:
            task = drawn.add_task(title, total=None, text="")
            yield lambda p: drawn.update(task, completed=p.done, total=p.total, text=p.text)
