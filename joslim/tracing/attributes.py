"""Integers that modules keep as attributes, and what a trace may conclude from reading one.

A module that says `x.view(n, self.width, -1)` writes down a number of channels, but under a name.
While `torch.fx` traces, such integers know their name, so that a rule can tie the attribute to the
channels that it counts: narrow networks then run with a narrow attribute. An attribute that code
also computes with, or that an operation reads without tying it, stays as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.utils._pytree import tree_leaves


def _note(*numbers: Any) -> None:
    """Remember that code computed with those of the numbers that are attributes."""
    for number in numbers:
        if isinstance(number, Attribute):
            number.uses.add(number.key)


def _noted(operation: Callable[..., Any]) -> Callable[..., Any]:
    """An operation of `int` that notes the attributes that it is used with."""

    def note(self: "Attribute", *args: Any) -> Any:
        result = operation(self, *args)
        if result is not NotImplemented:
            _note(self, *args)
        return result

    return note


class Attribute(int):
    """An integer that was read from a module.

    Attributes:
        module: Path of the module.
        name: Of its attribute.
        index: Position in the attribute if that is a sequence.
        share: The attribute is so many times this number.
        uses: Collects the names, ``(module, name)``, of attributes that code computed with.
    """

    module: str
    name: str
    index: int | None
    share: int
    uses: set[tuple[str, str]]

    @property
    def key(self) -> tuple[str, str]:
        """Path of the module and name of the attribute."""
        return self.module, self.name

    def __floordiv__(self, other: Any) -> Any:
        quotient = int.__floordiv__(self, other)
        if quotient is NotImplemented:
            return quotient
        _note(other)
        if int.__mod__(self, other):
            _note(self)
            return quotient
        share = self.share * int(other)
        return _attribute(quotient, self.module, self.name, self.index, self.uses, share)

    __rfloordiv__ = _noted(int.__rfloordiv__)
    __add__, __radd__ = _noted(int.__add__), _noted(int.__radd__)
    __sub__, __rsub__ = _noted(int.__sub__), _noted(int.__rsub__)
    __mul__, __rmul__ = _noted(int.__mul__), _noted(int.__rmul__)
    __truediv__, __rtruediv__ = _noted(int.__truediv__), _noted(int.__rtruediv__)
    __mod__, __rmod__ = _noted(int.__mod__), _noted(int.__rmod__)
    __pow__, __rpow__ = _noted(int.__pow__), _noted(int.__rpow__)
    __divmod__, __rdivmod__ = _noted(int.__divmod__), _noted(int.__rdivmod__)
    __eq__, __ne__ = _noted(int.__eq__), _noted(int.__ne__)
    __lt__, __le__ = _noted(int.__lt__), _noted(int.__le__)
    __gt__, __ge__ = _noted(int.__gt__), _noted(int.__ge__)
    __lshift__, __rlshift__ = _noted(int.__lshift__), _noted(int.__rlshift__)
    __rshift__, __rrshift__ = _noted(int.__rshift__), _noted(int.__rrshift__)
    __neg__, __abs__ = _noted(int.__neg__), _noted(int.__abs__)
    __bool__, __int__, __float__ = _noted(int.__bool__), _noted(int.__int__), _noted(int.__float__)
    __hash__ = int.__hash__


def attributes_in(arguments: Any) -> Iterator[Attribute]:
    """All attributes among the arguments of an operation."""
    for leaf in tree_leaves(arguments):
        if isinstance(leaf, Attribute):
            yield leaf
        elif isinstance(leaf, slice):
            bounds = (leaf.start, leaf.stop, leaf.step)
            yield from (bound for bound in bounds if isinstance(bound, Attribute))


@contextmanager
def named(modules: dict[str, nn.Module]) -> Iterator[set[tuple[str, str]]]:
    """Let the integer attributes of ``modules`` know their names; yields those computed with."""
    uses: set[tuple[str, str]] = set()
    plain: list[tuple[nn.Module, str, Any]] = []
    try:
        for path, module in modules.items():
            for name, value in list(vars(module).items()):
                marked = _marked(value, path, name, uses)
                if marked is not value:
                    plain.append((module, name, value))
                    vars(module)[name] = marked
        yield uses
    finally:
        for module, name, value in plain:
            vars(module)[name] = value


def _marked(value: Any, path: str, name: str, uses: set[tuple[str, str]]) -> Any:
    if type(value) is int and value > 1:
        return _attribute(value, path, name, None, uses)
    if type(value) in (tuple, list) and value and all(type(entry) is int for entry in value):
        return type(value)(_attribute(n, path, name, i, uses) for i, n in enumerate(value))
    return value


def _attribute(
    value: int, path: str, name: str, index: int | None, uses: set[tuple[str, str]], share: int = 1
) -> Attribute:
    number = Attribute(value)
    number.module, number.name, number.index, number.share = path, name, index, share
    number.uses = uses
    return number
