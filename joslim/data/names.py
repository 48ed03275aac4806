"""Names of classes and files, as they may be and as they are shown."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from joslim.errors import DataError

_INVISIBLE = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, of bytes that are no UTF-8, of ends of lines."""


def printable(name: str | Path) -> str:
    """A name with control characters, and bytes that are not UTF-8, written as ``\\x…``."""
    return "".join(
        character.encode("unicode_escape", "surrogatepass").decode()
        if unicodedata.category(character) in _INVISIBLE
        else character
        for character in str(name)
    )


def check_class_names(names: Iterable[str], where: Path) -> None:
    """Refuse names that no table, page or terminal could show.

    Raises:
        DataError: Naming the first, and ``where`` it stands.
    """
    for name in names:
        if (shown := printable(name)) != name:
            raise DataError(
                f"{printable(where)} names a class '{shown}'; expected UTF-8 without control "
                "characters"
            )
