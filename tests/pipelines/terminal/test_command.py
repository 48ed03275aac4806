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


def test_an_error_of_ours_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="batch_size is 7"):
        run_command(raising(ValueError("batch_size is 7")))
