"""Reading tables that earlier stages wrote; both raise as `read` does."""

from io import StringIO
from pathlib import Path

import pandas as pd

from pipelines.artifacts.files import read


def read_numbers(path: Path) -> pd.DataFrame:
    """A table whose columns tell their types."""
    return read(path, lambda text: pd.read_csv(StringIO(text)))


def read_by_class(path: Path) -> pd.DataFrame:
    """With class names as they are: one may be called ``None`` or ``1``."""
    names = {"label": str, "class": str}
    return read(path, lambda text: pd.read_csv(StringIO(text), dtype=names, keep_default_na=False))
