"""The algebra of channels: axes are words of runs, and what must agree is solved by substitution.

Every layer that produces channels starts a new *atom*. A tensor dimension is a sequence of runs: so
many elements for each channel of an atom, or a fixed number. When two dimensions have to agree,
atoms are substituted: by each other (a residual add), by fewer and larger ones (a grouped
convolution keeps whole groups, so four channels become one unit), or by several smaller ones (an
axis that is cut in half). The atoms that remain are the channel groups.

A run of ``n`` units always stands for its *first* units in a narrower network, so that slices stay
prefixes. What cannot be said in this algebra raises `Unfollowed`, and is frozen.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import gcd, lcm


class Unfollowed(Exception):
    """Why channels cannot be followed through an operation: raised by rules, it freezes them."""


@dataclass(eq=False)
class Atom:
    """Channels with one common count, until they are substituted.

    Attributes:
        name: The layer that produces them.
        channels: How many units there are in the full network.
        order: Sorts atoms by their first appearance.
        unit: Channels of the producing layer that stay together in one unit.
        members: The layers whose outputs carry them; none for the axes of bare parameters.
        frozen: Why the count cannot move.
        is_interface: Whether they reach the network's output.
        becomes: What they were substituted by.
    """

    name: str
    channels: int
    order: tuple[int, int]
    unit: int = 1
    members: list[str] = field(default_factory=list)
    frozen: str | None = None
    is_interface: bool = False
    becomes: "Runs | None" = None


@dataclass(frozen=True)
class Run:
    """``block`` elements for each channel of ``atom``; without an atom, a fixed number of them."""

    atom: Atom | None
    block: int

    @property
    def size(self) -> int:
        """Elements in the full network."""
        return self.block if self.atom is None else self.block * self.atom.channels


Runs = tuple[Run, ...]
"""One tensor dimension."""

Axes = tuple[Runs, ...]
"""All dimensions of a tensor."""


def fixed(shape: Iterable[int]) -> Axes:
    """Dimensions whose sizes depend on no channel."""
    return tuple((Run(None, size),) for size in shape)


def size_of(runs: Runs) -> int:
    """Elements of a dimension in the full network."""
    return sum(run.size for run in runs)


def resolve(runs: Runs) -> Runs:
    """The same dimension in terms of atoms that are not substituted."""
    return tuple(_resolved(runs))


def _resolved(runs: Runs) -> Iterator[Run]:
    for run in runs:
        if run.atom is None or run.atom.becomes is None:
            yield run
        else:
            inner = _resolved(run.atom.becomes)
            yield from (Run(part.atom, part.block * run.block) for part in inner)


def atoms_of(axes: Iterable[Runs]) -> list[Atom]:
    """The atoms that these dimensions are made of."""
    return [run.atom for runs in axes for run in resolve(runs) if run.atom is not None]


def moves(runs: Runs) -> bool:
    """Whether the size of a dimension depends on channels."""
    return bool(atoms_of((runs,)))


def count(runs: Runs) -> Counter[Atom | None]:
    """The size of a dimension as a linear function: elements per channel of each atom."""
    total: Counter[Atom | None] = Counter()
    for run in resolve(runs):
        total[run.atom] += run.block
    return total


class Channels:
    """All atoms of a network, and the ways to make them agree."""

    def __init__(self) -> None:
        self._atoms: list[Atom] = []

    def roots(self) -> list[Atom]:
        """The atoms that were not substituted, in the order of first appearance."""
        return sorted((a for a in self._atoms if a.becomes is None), key=lambda atom: atom.order)

    def new(self, name: str, channels: int, members: Iterable[str] = ()) -> Runs:
        """A dimension that nothing restricts yet."""
        atom = Atom(name, channels, (len(self._atoms), 0), members=list(members))
        self._atoms.append(atom)
        return (Run(atom, 1),)

    def tie(self, first: Runs, second: Runs, where: str) -> None:
        """Make two dimensions agree element by element.

        Channels that meet a fixed number of elements are frozen, because of ``where``.

        Raises:
            Unfollowed: If they have no common partition into whole channels.
        """
        left, right = _Stack(first), _Stack(second)
        while left and right:
            a, b = left.pop(), right.pop()
            if a.atom is not None and a.atom is b.atom and a.block != b.block:
                raise Unfollowed("joins axes made of different parts")
            if a.size > b.size:
                a = self._shorten(a, b.size, left)
            elif b.size > a.size:
                b = self._shorten(b, a.size, right)
            self._equate(a, b, where)
        if left or right:
            raise Unfollowed("joins axes of different sizes")

    def cut(self, runs: Runs, sizes: Sequence[int]) -> list[Runs]:
        """Consecutive stretches of a dimension, of so many elements each in the full network.

        Raises:
            Unfollowed: If a cut falls inside a channel.
        """
        stack, stretches = _Stack(runs), []
        for size in sizes:
            stretch: list[Run] = []
            while size > 0:
                run = stack.pop()
                if run.size > size:
                    run = self._shorten(run, size, stack)
                stretch.append(run)
                size -= run.size
            stretches.append(tuple(stretch))
        return stretches

    def split(self, runs: Runs, parts: int, where: str) -> Runs:
        """One of ``parts`` equal parts of a dimension; all parts then share their channels.

        Raises:
            Unfollowed: If there are no such parts made of whole channels.
        """
        size, rest = divmod(size_of(runs), parts)
        if rest:
            raise Unfollowed(f"splits {size_of(runs)} channels into {parts} unequal parts")
        first, *others = self.cut(runs, [size] * parts)
        for other in others:
            self.tie(first, other, where)
        return resolve(first)

    def divide(self, runs: Runs, by: int) -> Runs:
        """A dimension with one element for each ``by`` consecutive elements, which stay together.

        Raises:
            Unfollowed: If some of its runs do not hold a multiple of ``by`` elements.
        """
        stack, divided = _Stack(runs), []
        while stack:
            run = stack.pop()
            if run.size % by:
                raise Unfollowed(
                    f"keeps {by} channels together, which {run.size} are no multiple of"
                )
            if run.atom is None:
                divided.append(Run(None, run.block // by))
            else:
                together = by // gcd(by, run.block)
                divided.append(Run(self._coarsen(run.atom, together), run.block * together // by))
        return tuple(divided)

    @staticmethod
    def scale(runs: Runs, by: int) -> Runs:
        """A dimension with ``by`` elements for each element of this one."""
        return tuple(Run(run.atom, run.block * by) for run in resolve(runs))

    def _shorten(self, run: Run, size: int, rest: "_Stack") -> Run:
        """Cut ``run`` after ``size`` elements and put what remains on ``rest``."""
        if run.atom is None:
            rest.push(Run(None, run.size - size))
            return Run(None, size)
        channels, inside = divmod(size, run.block)
        if inside:
            raise Unfollowed("joins axes made of different parts")
        head = self._derive(run.atom, channels)
        tail = self._derive(run.atom, run.atom.channels - channels, start=channels)
        run.atom.becomes = (Run(head, 1), Run(tail, 1))
        rest.push(Run(tail, run.block))
        return Run(head, run.block)

    def _coarsen(self, atom: Atom, together: int) -> Atom:
        if together == 1:
            return atom
        coarse = self._derive(atom, atom.channels // together, together=together)
        atom.becomes = (Run(coarse, together),)
        return coarse

    def _derive(self, atom: Atom, channels: int, *, start: int = 0, together: int = 1) -> Atom:
        part = Atom(
            name=f"{atom.name}[{start}:]" if start else atom.name,
            channels=channels,
            order=(atom.order[0], atom.order[1] + start),
            unit=atom.unit * together,
            members=list(atom.members),
            frozen=atom.frozen,
            is_interface=atom.is_interface,
        )
        self._atoms.append(part)
        return part

    @staticmethod
    def settle(axes: Iterable[Runs]) -> None:
        """Give dimensions of bare parameters, if nothing was tied to them yet, fixed sizes."""
        for atom in atoms_of(axes):
            if not atom.members:
                atom.becomes = (Run(None, atom.channels),)

    def _equate(self, a: Run, b: Run, where: str) -> None:
        if a.atom is None or b.atom is None:
            self.settle(((a, b),))
            for atom in atoms_of(((a, b),)):
                atom.frozen = atom.frozen or f"{where} joins them with fixed channels"
            return
        common = lcm(a.block, b.block)
        first = self._coarsen(a.atom, common // a.block)
        second = self._coarsen(b.atom, common // b.block)
        if first is not second:
            # A layer's channels before a bare parameter's, so that groups are named after layers.
            first, second = sorted((first, second), key=lambda atom: (not atom.members, atom.order))
            second.becomes = (Run(first, 1),)
            first.members += second.members
            first.frozen = first.frozen or second.frozen
            first.is_interface |= second.is_interface


class _Stack:
    """The rest of a dimension, read from its front; resolved late, as reading may substitute."""

    def __init__(self, runs: Runs) -> None:
        self._runs = list(reversed(runs))

    def __bool__(self) -> bool:
        return bool(self._runs)

    def push(self, run: Run) -> None:
        self._runs.append(run)

    def pop(self) -> Run:
        first, *others = resolve((self._runs.pop(),))
        self._runs.extend(reversed(others))
        return first
