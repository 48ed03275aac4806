"""One terminal for many stages: a progress bar for each that runs, their lines above."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich import progress as bars
from rich.text import Text

from pipelines.terminal.console import console
from pipelines.terminal.printable import one_line
from pipelines.terminal.progress import ROOM_FOR_BAR, Progress, fitting

MARKS = {
    "ran": Text("✓", "green"),
    "cached": Text("✓", "dim"),
    "failed": Text("✗", "red"),
    "interrupted": Text("■", "yellow"),
}


class Display:
    """Shows running stages on a terminal; without one, or if not enabled, it shows nothing."""

    def __init__(self, stages: Iterable[str], *, enabled: bool = True) -> None:
        self._label_width = max(map(len, stages))
        self._bars = bars.Progress(
            bars.SpinnerColumn(style="cyan", finished_text=" "),
            bars.TextColumn("{task.description}", markup=False),
            bars.TextColumn("{task.fields[title]}", markup=False),
            bars.BarColumn(bar_width=None),
            bars.TextColumn("{task.fields[position]}", markup=False),
            console=console,
            expand=True,
            transient=True,
            disable=not (enabled and console.is_terminal and not console.is_dumb_terminal),
        )

    @property
    def columns(self) -> int | None:
        """Width that a stage's own lines may take; None if nothing is shown."""
        if self._bars.disable:
            return None
        return max(20, self._bars.console.width - self._label_width - 4)

    @staticmethod
    def current() -> "Display":
        """The display in use; where there is none, one that shows nothing."""
        return _current.get(None) or Display(["stage"], enabled=False)

    def __enter__(self) -> "Display":
        self._bars.start()
        _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def running(self, name: str) -> Iterator["Stage"]:
        """Show a stage while the block runs, and then its outcome."""
        stage = Stage(self._bars, f"{name:<{self._label_width}}")
        try:
            yield stage
        finally:
            stage.close()


class Stage:
    """A stage that is shown while it runs.

    Attributes:
        outcome: How it ended, a key of `MARKS`; set by whoever runs it.
    """

    def __init__(self, drawn: bars.Progress, label: str) -> None:
        self.outcome = "interrupted"
        self._bars = drawn
        self._label = label
        self._started = time.monotonic()
        self._task = drawn.add_task(label, total=None, title="", position="")

    def line(self, text: str) -> None:
        """Print a line of the stage's output above the bars."""
        self._print(f"  {self._label} {text}")

    def progress(self, progress: Progress) -> None:
        """Move the stage's bar."""
        position = f"{progress.done}/{progress.total}"
        if progress.seconds_left is not None:
            position += f" {clock(progress.seconds_left)} left"
        room = self._bars.console.width - len(self._label) - len(progress.title) - ROOM_FOR_BAR
        self._bars.update(
            self._task,
            completed=progress.done,
            total=progress.total,
            title=one_line(progress.title),
            position=f"{position} {fitting(one_line(progress.text), room)}",
        )

    def close(self) -> None:
        """Replace the bar by the outcome."""
        self._bars.remove_task(self._task)
        took = "" if self.outcome == "cached" else f" {clock(time.monotonic() - self._started)}"
        self._print(MARKS[self.outcome], f" {self._label} {self.outcome}", Text(took, "dim"))

    def _print(self, *parts: str | Text) -> None:
        if not self._bars.disable:
            self._bars.console.print(*parts, sep="", soft_wrap=True)


_current: ContextVar[Display] = ContextVar("display")


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds: ``75`` as ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
