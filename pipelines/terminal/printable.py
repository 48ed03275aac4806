"""Text of others, safe to print: of a server, of files, of errors."""

import re

_LOGIN = re.compile(r"(?<=://)[^\s/?#'\"]*@")


def without_logins(text: object) -> str:
    """``text`` with ``http://host`` in place of each ``http://user:password@host``."""
    return _LOGIN.sub("", str(text))


def printable(text: object) -> str:
    r"""``text`` without logins, and with ``\x1b`` in place of what a terminal would obey.

    Such are escape sequences, carriage returns and marks that turn the direction of writing. Line
    breaks and tabs stay.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode()
        for c in without_logins(text)
    )


def one_line(text: object) -> str:
    r"""Likewise, with ``\n`` in place of line breaks: for names, and lines that programs read."""
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")
