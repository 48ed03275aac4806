"""Strings are text: no markup, no escape sequences, no logins."""

import pytest
from rich.table import Table
from rich.text import Text

from pipelines.terminal.console import PlainConsole, complain
from pipelines.terminal.printable import one_line, printable, without_logins

ODD = "[/] [link=http://x]y[/link] [bold]z :smile: \x1b[31m \x1b]8;;http://x\x07 \r \u202e"
SHOWN = r"[/] [link=http://x]y[/link] [bold]z :smile: \x1b[31m \x1b]8;;http://x\x07 \r \u202e"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://joe:secret@host:5000/x", "http://host:5000/x"),
        ("at 'https://joe:p%40ss@host', or https://b:c@d", "at 'https://host', or https://d"),
        ("postgresql+psycopg2://joe:p@ss@host/db", "postgresql+psycopg2://host/db"),
        ("http://token@host", "http://host"),
        ("sqlite:////home/joe@work/mlflow.db", "sqlite:////home/joe@work/mlflow.db"),
        ("http://host/path@x?a=b@c", "http://host/path@x?a=b@c"),
        ("mail joe@host, see models:/x@budget-tiny", "mail joe@host, see models:/x@budget-tiny"),
    ],
)
def test_logins_are_left_out_of_addresses(text: str, expected: str) -> None:
    assert without_logins(text) == printable(text) == one_line(text) == expected


def test_what_a_terminal_would_obey_is_shown_instead() -> None:
    assert printable(ODD) == SHOWN
    assert printable("ein Größenwahn\n\tüber 日本 ✓") == "ein Größenwahn\n\tüber 日本 ✓"
    assert printable("\x9b2J\ud800\x00") == r"\x9b2J\ud800\x00"
    assert one_line("w-0\nmodels:/other/1\t") == r"w-0\nmodels:/other/1\t"


def test_all_that_is_printed_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(width=400)
    console.print(ODD)
    table = Table(ODD, title=ODD)
    table.add_row(ODD)
    console.print(table, ODD, style="bold")
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 5
    assert "\x1b" not in out


def test_styles_are_given_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    console = PlainConsole(force_terminal=True, color_system="standard")
    console.print(Text("a", "red"), "[red]b", style="bold")
    assert capsys.readouterr().out == "\x1b[1;31ma\x1b[0m\x1b[1m [red]b\x1b[0m\n"


def test_a_complaint_is_text_on_the_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    complain("error", f"{ODD} http://joe:secret@host {'long ' * 40}")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"error: {SHOWN} http://host {'long ' * 40}\n"
