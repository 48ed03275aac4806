"""What reading a dataset passed over or changed, so that it can be said."""

from collections.abc import Iterable
from dataclasses import dataclass

from joslim.data.names import printable


@dataclass(frozen=True)
class Remark:
    """Something that happened to images on their way, or to files that are none.

    Attributes:
        what: In words, as ``images turned upright, as their EXIF data says``.
        count: How many.
        example: The name of the first, fit to be printed.
    """

    what: str
    count: int
    example: str


def collected(noticed: Iterable[tuple[str, str]]) -> tuple[Remark, ...]:
    """One remark for each thing, of pairs of what was noticed and where, in order of the first."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for what, name in noticed:
        counts[what] = counts.get(what, 0) + 1
        examples.setdefault(what, name)
    return tuple(Remark(what, count, printable(examples[what])) for what, count in counts.items())
