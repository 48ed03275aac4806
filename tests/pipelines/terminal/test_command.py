import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from joslim.errors import DataError
from pipelines.terminal.command import run_command


def raising(error: BaseException) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout, of which the working directory is a folder."""
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    torch_logger = logging.getLogger("torch")
    monkeypatch.setattr(torch_logger, "level", torch_logger.level)
    return tmp_path


def test_the_work_is_done_in_the_checkouts_root(root: Path) -> None:
    seen: list[Path] = []
    run_command(lambda: seen.append(Path.cwd()))
    assert seen == [root]


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (
            DataError("batch_size is 7; expected [2]"),
            1,
            "DataError: training.batch_size is 7; expected [2]\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
)
def test_an_expected_end_is_told_in_a_line_without_a_traceback(
    error: BaseException, code: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(raising(error))
    assert ended.value.code == code
    assert capsys.readouterr() == ("", told)


def test_an_error_that_is_not_expected_has_its_traceback_without_a_login(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        run_command(raising(ValueError("no answer of http://joe:secret@host/x\x1b[2J")))
    assert ended.value.code == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "Traceback (most recent call last):"
    assert told[-1] == r"ValueError: no answer of http://host/x\x1b[2J"


def test_what_others_have_written_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_command(raising(DataError("class '[/]\x1b]8;;http://x\x07' at http://joe:secret@host")))
    expected = "DataError: class '[/]\\x1b]8;;http://x\\x07' at http://host\n"
    assert capsys.readouterr().err == expected


def test_warnings_are_text_too() -> None:
    run_command(lambda: None)
    told = warnings.formatwarning("\rof http://joe:secret@host", UserWarning, "x.py", 1)
    assert told == "warning: \\rof http://host\n"
