"""Budgets as people write them: ``macs=12M``, ``memory=4MiB``, ``latency=5ms``, ``params=50%``."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from joslim.errors import BudgetError

_COUNT = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
_BYTES = {
    "": 1.0, "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9,
    "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
}  # fmt: skip
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?)\s*([a-z%]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Quantity:
    """Something that a budget can limit.

    Attributes:
        name: As written in a budget.
        column: Name in tables, metrics and the registry, with its unit.
        units: Factor of every accepted unit; `column` is in units of 1.
        example: How a limit looks.
    """

    name: str
    column: str
    units: Mapping[str, float]
    example: str

    @property
    def is_measured(self) -> bool:
        """Whether it is a latency, which a device decides; all else follows from the network."""
        return self.units is _MILLISECONDS

    def format(self, value: float) -> str:
        """``value`` (in the unit of `column`) for people: ``11.8M``, ``4 MiB``, ``3.10 ms``."""
        if self.is_measured:
            return f"{value:.2f} ms"
        binary = self.units is _BYTES
        for unit in ("GiB", "MiB", "KiB") if binary else ("G", "M", "k"):
            rounded = float(f"{value / self.units[unit]:.3g}")
            if rounded >= 1:
                return f"{rounded:g}{' ' if binary else ''}{unit}"
        return f"{value:.0f}{' B' if binary else ''}"


QUANTITIES = {
    quantity.name: quantity
    for quantity in (
        Quantity("macs", "macs", _COUNT, "12M"),
        Quantity("params", "params", _COUNT, "250k"),
        Quantity("memory", "memory_bytes", _BYTES, "4MiB"),
        Quantity("latency", "latency_ms", _MILLISECONDS, "5ms"),
    )
}


_LATENCY_AT = re.compile(r"latency@([a-z][a-z0-9_]*)")


def quantity(name: str) -> Quantity:
    """The quantity called ``name``; ``latency@NAME`` is the latency on another device.

    Raises:
        BudgetError: If there is none.
    """
    if match := _LATENCY_AT.fullmatch(name):
        return Quantity(name, f"latency_ms_{match[1]}", _MILLISECONDS, "5ms")
    if name not in QUANTITIES:
        raise BudgetError(
            f"budget on '{name}'; expected one of {', '.join(QUANTITIES)}, or latency@NAME, a name "
            "of lower-case letters, digits and _, the first a letter"
        )
    return QUANTITIES[name]


def stated(columns: Iterable[str]) -> list[Quantity]:
    """The quantities that a table of ``columns`` states: the usual ones, then other devices'."""
    there = list(columns)
    prefix = "latency_ms_"
    others = [quantity(f"latency@{c.removeprefix(prefix)}") for c in there if c.startswith(prefix)]
    return [q for q in QUANTITIES.values() if q.column in there] + others


@dataclass(frozen=True)
class Limit:
    """At most ``amount`` of a quantity.

    Attributes:
        amount: In the unit of the quantity's column.
        percent: The amount is a percentage of the full network's cost instead.
        text: The limit as the user wrote it.
    """

    quantity: Quantity
    amount: float
    percent: bool
    text: str

    def __str__(self) -> str:
        return f"{self.quantity.name} <= {self.text}"

    @property
    def hint(self) -> str:
        """What to say of a limit that nothing keeps to: a percent sign may be missing."""
        if not self.text.isdecimal() or self.amount > 100:
            return ""
        return f"; did you mean {self.quantity.name} <= {self.text}%?"

    def resolve(self, full: float | None) -> float:
        """The limit in the unit of the quantity's column; ``full`` is the full network's cost."""
        if not self.percent:
            return self.amount
        if full is None:
            raise BudgetError(
                f"budget {self}: the full network's {self.quantity.name} is not known; "
                f"expected an absolute limit such as {self.quantity.example}"
            )
        return float(Fraction(full) * Fraction(self.amount) / 100)


Budget = tuple[Limit, ...]
"""Limits that hold together, one per quantity."""


def parse_limit(name: str, value: object) -> Limit:
    """Parse ``12M`` (or a plain number) as a limit on the quantity ``name``.

    Raises:
        BudgetError: If the quantity, the number or the unit is not understood, or not positive.
    """
    limited = quantity(name)
    try:
        text = str(value).strip()
    except ValueError as error:  # Python writes no number of so many digits
        raise BudgetError(f"budget {name} is a number of too many digits") from error
    match = _NUMBER.fullmatch(text)
    units = {unit.lower(): factor for unit, factor in limited.units.items()}
    if isinstance(value, bool) or not match or match[2].lower() not in {*units, "%"}:
        allowed = ", ".join(unit for unit in limited.units if unit)
        bare = "a number, alone or" if "" in units else "a number"
        raise BudgetError(
            f"budget {name} is {text!r}; expected {bare} with one of the units {allowed}, "
            f"or a percentage of the full network (for example {limited.example} or 50%)"
        )
    unit = match[2].lower()
    amount = float(match[1]) * units.get(unit, 1.0)
    if not 0 < amount < math.inf or (unit == "%" and amount > 100):
        allowed = "more than 0% and at most 100%" if unit == "%" else "more than 0, and finite"
        raise BudgetError(f"budget {name} is {text!r}; expected {allowed}")
    return Limit(limited, amount, unit == "%", text)


def parse_limits(limits: Mapping[str, object]) -> Budget:
    """Parse the limits of one budget by quantity: ``{"macs": "12M", "memory": "4MiB"}``."""
    if not isinstance(limits, Mapping) or not limits:
        raise BudgetError(f"budget is {limits!r}; expected limits such as {{macs: 12M}}")
    return tuple(parse_limit(str(name), value) for name, value in limits.items())


def parse_budget(text: str) -> Budget:
    """Parse a budget of the command line: ``macs=12M`` or ``macs=12M,memory=4MiB``."""
    limits: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise BudgetError(f"budget {text!r}; expected QUANTITY=LIMIT such as macs=12M")
        if name in limits:
            raise BudgetError(f"budget {text!r} limits {name} twice; expected it once")
        limits[name] = value
    return parse_limits(limits)


Cheapest = Callable[[str], tuple[str, Mapping[str, float]] | None]
"""From a quantity's column to the name and the numbers of what has least of it; None if nothing
states it."""


def infeasible(kind: str, budget: Budget, cheapest: Cheapest) -> str:
    """What to say of a budget that nothing is within: the limits, and what is cheapest.

    Args:
        kind: What was looked for, as ``version of joslim-resnet20-pets``.
        budget: The limits.
        cheapest: Finds what has least of a quantity.
    """
    parts = [f"no {kind} has {' and '.join(map(str, budget))}"]
    for limit in budget:
        found = cheapest(limit.quantity.column)
        if found is None:
            parts.append(f"no {kind.partition(' ')[0]} states its {limit.quantity.name}")
        else:
            name, numbers = found
            costs = ", ".join(f"{q.name} {q.format(numbers[q.column])}" for q in stated(numbers))
            parts.append(f"the cheapest in {limit.quantity.name} is {name} with {costs}")
    return "; ".join(parts) + "".join(limit.hint for limit in budget)
