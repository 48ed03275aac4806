"""What the nodes of the graph give, in terms of channels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from joslim.tracing.channels import Axes, Runs, fixed
from joslim.tracing.graph import Shape


@dataclass(frozen=True)
class TensorValue:
    """A tensor, by its dimensions."""

    axes: Axes


@dataclass(frozen=True)
class Size:
    """An integer that equals the size of ``runs``, such as ``x.shape[1]``."""

    runs: Runs


Value = TensorValue | Size | tuple["Value", ...] | None
"""What a node gives: tensors, sizes, sequences of these, or what no channel decides."""


def constant(result: Any) -> Value:
    """A result that depends on no channel."""
    if isinstance(result, Shape):
        return TensorValue(fixed(result.sizes))
    if isinstance(result, int):
        return Size(fixed((result,))[0])
    if isinstance(result, tuple | list):
        return tuple(map(constant, result))
    return tuple(map(constant, result.values())) if isinstance(result, dict) else None


def runs_in(value: Value) -> Iterator[Runs]:
    """All dimensions and sizes that a value holds."""
    for part in _parts(value):
        if isinstance(part, TensorValue):
            yield from part.axes
        else:
            yield part.runs


def tensors_in(value: Value) -> Iterator[Axes]:
    """The dimensions of each tensor that a value holds."""
    return (part.axes for part in _parts(value) if isinstance(part, TensorValue))


def _parts(value: Value) -> Iterator[TensorValue | Size]:
    if isinstance(value, tuple):
        for part in value:
            yield from _parts(part)
    elif value is not None:
        yield value
