"""One terminal for many stages: their progress bars below each other, their lines above."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

_TOKEN = re.compile(r"\x1b\[(?P<args>[\d;?]*)(?P<code>[A-Za-z])|\x1b[^\[]|\r|\n|[^\x1b\r\n]+")
_CUT_OFF = re.compile(r"\x1b(\[[\d;?]*)?$")
_STYLE = re.compile(r"\x1b\[[\d;]*m")


def plain(text: str) -> str:
    """The text without colours."""
    return _STYLE.sub("", text)


class Screen:
    """The end of a stage's output: the rows that it may still redraw.

    A progress bar redraws itself: carriage return, cursor up, erase, new text. So a row is
    finished once text is written below it outside such a redraw, and everything above the place
    where a redraw starts is finished too.
    """

    def __init__(self) -> None:
        self.rows = [""]
        self._cursor = 0
        self._redraws = False
        self._cursor_hidden = False
        self._cut_off = ""

    def feed(self, output: str) -> list[str]:
        """Take a piece of output; return the lines that are finished now."""
        output = self._cut_off + output
        tail = _CUT_OFF.search(output)
        self._cut_off = tail.group() if tail else ""
        finished = []
        for token in _TOKEN.finditer(output, 0, len(output) - len(self._cut_off)):
            text, code, args = token.group(), token["code"], token["args"]
            if text == "\r":
                self._redraws = True
            elif text == "\n":
                self._next_row()
                finished += [] if self._cursor_hidden else self._finish_above()
            elif code == "A":
                self._cursor = max(0, self._cursor - int(args or 1))
            elif code == "K" and args == "2":
                self.rows[self._cursor] = ""
            elif code in ("h", "l") and args == "?25":
                self._cursor_hidden = code == "l"
                finished += [] if self._cursor_hidden else self._finish_above()
            elif code == "m" or not text.startswith("\x1b"):
                if self._redraws and code is None:
                    finished += self._finish_above()
                    self.rows[self._cursor] = ""
                    self._redraws = False
                self.rows[self._cursor] += text
        return [line for line in finished if plain(line).strip()]

    def close(self) -> list[str]:
        """The rows that are left when the output has ended."""
        rows, self.rows, self._cursor = self.rows, [""], 0
        return [row for row in rows if plain(row).strip()]

    def _next_row(self) -> None:
        self._redraws = False
        self._cursor += 1
        if self._cursor == len(self.rows):
            self.rows.append("")

    def _finish_above(self) -> list[str]:
        above, self.rows, self._cursor = self.rows[: self._cursor], self.rows[self._cursor :], 0
        return above


MARKS = {
    "ran": "[green]✓[/]",
    "cached": "[dim]✓[/]",
    "failed": "[red]✗[/]",
    "interrupted": "[yellow]■[/]",
}


class Stage:
    """A stage that runs.

    Attributes:
        outcome: How it ended, a key of `MARKS`.
        drawn: The rows that it redraws while it runs.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcome = "interrupted"
        self.drawn: Sequence[str] = ()
        self._started = time.monotonic()

    @property
    def duration(self) -> str:
        minutes, seconds = divmod(round(time.monotonic() - self._started), 60)
        return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"


class Display:
    """Shows running stages on a terminal; without one, or if not enabled, it shows nothing."""

    def __init__(self, stages: Iterable[str], *, enabled: bool = True) -> None:
        self._console = Console()
        self._enabled = enabled and self._console.is_terminal and not self._console.is_dumb_terminal
        self._label_width = max(map(len, stages))
        self._running: list[Stage] = []
        self._spinner = Spinner("dots", style="cyan")
        self._live = Live(get_renderable=self._render, console=self._console, transient=True)

    @property
    def columns(self) -> int | None:
        """Width that a stage's own output may take; None if nothing is shown."""
        return max(20, self._console.width - self._label_width - 4) if self._enabled else None

    def __enter__(self) -> "Display":
        if self._enabled:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @contextmanager
    def running(self, name: str) -> Iterator[Stage]:
        """Show a stage while the block runs, and then its outcome."""
        stage = Stage(name)
        self._running.append(stage)
        try:
            yield stage
        finally:
            self._running.remove(stage)
            took = "" if stage.outcome == "cached" else f" [dim]{stage.duration}[/]"
            self._print(MARKS[stage.outcome], name, Text.from_markup(stage.outcome + took))

    def line(self, stage: Stage, text: str) -> None:
        """Print a finished line of the stage above the running stages."""
        self._print("", stage.name, Text.from_ansi(text))

    def _print(self, mark: str, name: str, text: Text) -> None:
        if self._enabled:
            self._console.print(self._grid([(mark, name, text)]))

    def _render(self) -> RenderableType:
        rows: list[tuple[RenderableType, str, Text]] = []
        for stage in self._running:
            drawn = [Text.from_ansi(row) for row in stage.drawn if plain(row).strip()]
            for i, text in enumerate(drawn or [Text(stage.duration, style="dim")]):
                rows.append(("", "", text) if i else (self._spinner, stage.name, text))
        return self._grid(rows)

    def _grid(self, rows: Iterable[tuple[RenderableType, str, Text]]) -> Table:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=1)
        grid.add_column(width=self._label_width, no_wrap=True)
        grid.add_column(ratio=1, overflow="fold")
        for row in rows:
            grid.add_row(*row)
        return grid
