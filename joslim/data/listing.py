"""Which files a dataset's folder holds: one list for whoever reads, checks or watches them."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from joslim.data.names import printable
from joslim.errors import DataError


class Kind(Enum):
    """What stands in a folder. Values complete "it is …"."""

    FILE = "a file"
    FOLDER = "a folder"
    LINKED_FOLDER = "a link to a folder"
    REPEATED_FOLDER = "a link to a folder that is listed elsewhere"
    HIDDEN = "hidden"
    DEAD_LINK = "a link to nothing"
    NO_FILE = "neither a file nor a folder"


@dataclass(frozen=True)
class Entry:
    """Something in a dataset's folder.

    Attributes:
        name: Its path, relative to the dataset's folder.
        kind: What it is, links followed.
        size: In bytes; 0 if it is no file.
        changed: Time of the last change, in nanoseconds; 0 if it is no file.
    """

    name: str
    kind: Kind
    size: int = 0
    changed: int = 0


def list_files(root: Path) -> Iterator[Entry]:
    """All that is under ``root``, in order of the parts of its path, links to folders followed.

    Folders are not told of, but for those that are links. What is hidden, as its name starts with a
    dot, is not looked into. No folder is listed twice, so links may lead around in a circle.

    Raises:
        DataError: If a folder cannot be read.
    """
    seen = {_identity(root.stat())} if root.is_dir() else set()
    pending = [("", _members(root))]
    while pending:
        prefix, members = pending[-1]
        if not members:
            pending.pop()
            continue
        member = members.pop()
        name, (kind, status) = prefix + member.name, _look(member)
        if kind in (Kind.FOLDER, Kind.LINKED_FOLDER) and status is not None:
            if _identity(status) in seen:
                kind = Kind.REPEATED_FOLDER
            else:
                seen.add(_identity(status))
                pending.append((f"{name}/", _members(Path(member.path))))
        if kind is Kind.FILE and status is not None:
            yield Entry(name, kind, status.st_size, status.st_mtime_ns)
        elif kind is not Kind.FOLDER:
            yield Entry(name, kind)


def folders(path: Path) -> list[str]:
    """Names of the folders right under ``path``, sorted, links among them, hidden ones not.

    Raises:
        DataError: If ``path`` cannot be read.
    """
    wanted = (Kind.FOLDER, Kind.LINKED_FOLDER)
    return [member.name for member in reversed(_members(path)) if _look(member)[0] in wanted]


def _members(folder: Path) -> list[os.DirEntry[str]]:
    """The last first, to be taken from the end."""
    try:
        with os.scandir(folder) as members:
            return sorted(members, key=lambda member: member.name, reverse=True)
    except OSError as error:
        raise DataError(f"{printable(folder)} cannot be read: {error.strerror}") from error


def _look(member: os.DirEntry[str]) -> tuple[Kind, os.stat_result | None]:
    if member.name.startswith("."):
        return Kind.HIDDEN, None
    try:
        status = member.stat()
    except OSError:
        return Kind.DEAD_LINK, None
    if stat.S_ISDIR(status.st_mode):
        return Kind.LINKED_FOLDER if member.is_symlink() else Kind.FOLDER, status
    return Kind.FILE if stat.S_ISREG(status.st_mode) else Kind.NO_FILE, status


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
