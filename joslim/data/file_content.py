"""Reading files that other people have made: only true files, and no more than memory holds."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from joslim.data.names import printable
from joslim.errors import DataError

MAX_BYTES = 2**30
"""Of one file, or one image, that is read into memory."""


@contextmanager
def opened(file: Path) -> Iterator[BinaryIO]:
    """Open a file, links followed. A named pipe, which could be waited for, is refused.

    Raises:
        DataError: If it is missing or no file, with its name; also if reading fails later.
    """
    try:
        with open(file, "rb", opener=_open_file) as content:
            yield content
    except OSError as error:
        missing = isinstance(error, FileNotFoundError) and file.is_symlink()
        reason = "a link to nothing" if missing else error.strerror or error
        raise DataError(f"{printable(file)}: {reason}") from error


def content_of(file: Path) -> bytes:
    """The bytes of a whole file.

    Raises:
        DataError: If it is missing, no file, or larger than `MAX_BYTES`, with its name.
    """
    with opened(file) as content:
        check_size(file, os.fstat(content.fileno()).st_size)
        return content.read()


def check_size(name: str | Path, size: int) -> None:
    """Refuse what is too large to be read into memory.

    Raises:
        DataError: If ``size`` is above `MAX_BYTES`.
    """
    if size > MAX_BYTES:
        raise DataError(
            f"{printable(name)}: it is large, {size / 2**30:.1f} GiB; expected at most "
            f"{MAX_BYTES / 2**30:g} GiB"
        )


def _open_file(name: str, flags: int) -> int:
    if not stat.S_ISREG(os.stat(name).st_mode):  # noqa: PTH116, as `open` gives no Path
        raise DataError(f"{printable(name)}: not a file, but a folder, a pipe or a device")
    return os.open(name, flags | os.O_NONBLOCK)
