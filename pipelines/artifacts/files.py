"""Reading what earlier stages wrote."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from joslim.errors import DataError

Content = TypeVar("Content")


def read(path: Path, parse: Callable[[str], Content]) -> Content:
    """``parse`` the text of a stage's output.

    Raises:
        DataError: If it is missing or damaged, with its name.
    """
    try:
        return parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else error
        raise DataError(f"{path} cannot be read: {reason}; run `dvc repro`") from error


def read_json(path: Path) -> Any:
    """The JSON value in a stage's output; raises as `read` does."""
    return read(path, json.loads)
