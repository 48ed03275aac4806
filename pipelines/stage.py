"""What every stage does around its work: stand in the checkout, show progress, fail in one line."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from joslim.errors import JoslimError
from pipelines import paths

Item = TypeVar("Item")
_SECONDS_BETWEEN_LINES = 15

console = Console(highlight=False)


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage from the checkout's root; an expected error is printed without a traceback."""
    os.chdir(paths.root())
    logging.getLogger("torch").setLevel(logging.ERROR)
    try:
        main()
    except JoslimError as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(
            f"[bold red]{type(error).__name__}[/]: ", end=""
        )
        print(error, file=sys.stderr)
        sys.exit(1)


def track(
    items: Iterable[Item],
    title: str,
    total: int = 0,
    *,
    describe: Callable[[Item], str] = lambda _: "",
    position: Callable[[Item], tuple[int, int]] | None = None,
) -> Iterator[Item]:
    """Yield ``items`` beside a progress bar with the time left; without a terminal, log lines.

    Args:
        items: What is worked on; an item counts as done when the next one is asked for.
        title: What the work is.
        total: Number of items.
        describe: Text beside the bar for the latest item.
        position: Items done, of how many, as the latest item tells it; None counts them.
    """
    bar = _Bar(title) if console.is_terminal else _Lines(title)
    with bar:
        for count, item in enumerate(items, start=1):
            yield item
            bar.show(*(position(item) if position else (count, total)), describe(item))


class _Bar(Progress):
    def __init__(self, title: str) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("left {task.fields[text]}"),
            console=console,
            expand=True,
        )
        self._task = self.add_task(title, total=None, text="")

    def show(self, done: int, total: int, text: str) -> None:
        self.update(self._task, completed=done, total=total, text=text)


class _Lines(nullcontext[None]):
    """A line now and then, for logs."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self._title = title
        self._start = self._last = time.monotonic()
        self._first: int | None = None

    def show(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        self._first = done - 1 if self._first is None else self._first
        if done == total or now - self._last > _SECONDS_BETWEEN_LINES:
            self._last = now
            left = (now - self._start) / (done - self._first) * (total - done)
            line = f"{self._title}: {done}/{total}, {left:.0f} s left, {text}"
            print(line.rstrip(", "), flush=True)
