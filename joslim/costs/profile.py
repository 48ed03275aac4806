"""Latencies that were measured on some device, and what they tell of other widths.

A profile holds whole forward passes at some width configurations. What they take is fitted by what
the network's operations write and multiply,

    milliseconds = a + Σ over kinds of operations (b · elements of results + c · MACs),    all >= 0,

so that a prediction for other widths has the closed form of the exact costs.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from scipy.optimize import nnls

from joslim.costs.exact import macs
from joslim.costs.latency import Latency, LatencyTable
from joslim.errors import CheckpointError
from joslim.supernet.network import SlimmableNetwork
from joslim.tracing import Operation
from joslim.widths import Widths

FEWEST = 8
"""Width configurations that a fit needs."""

DENSE = 32.0
"""MACs per element of a result from which an operation counts as one that mostly multiplies."""


class _Measured(BaseModel):
    widths: tuple[int, ...]
    macs: FiniteFloat
    latency_ms: float = Field(ge=1e-6, le=1e9)
    latency_doubt: str = ""


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    device: str
    date: str = ""
    groups: tuple[str, ...]
    configurations: tuple[_Measured, ...]


@dataclass(frozen=True)
class Profile:
    """What a network's width configurations take on one device.

    Attributes:
        name: The device's short name, by which budgets know it.
        device: Processor, runtime, threads.
        groups: Names of the channel groups.
        measured: Median milliseconds for one image, by widths.
        macs: Multiply-accumulates, by widths.
        date: When it was measured, in UTC; empty if it does not say.
        doubts: Why what was measured may be too long, by those widths of which that is so.
    """

    name: str
    device: str
    groups: tuple[str, ...]
    measured: Mapping[Widths, float]
    macs: Mapping[Widths, float]
    date: str = ""
    doubts: Mapping[Widths, str] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path) -> "Profile":
        """Read what ``python run.py --profile`` of a bundle wrote; ``NAME.json`` gives the name.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        try:
            content = _File.model_validate_json(file.read_text())
        except (OSError, ValueError) as error:
            raise CheckpointError(f"profile {file} cannot be read: {error}") from error
        measured = {one.widths: one.latency_ms for one in content.configurations}
        if any(len(widths) != len(content.groups) for widths in measured):
            raise CheckpointError(f"profile {file} has widths for other groups than it names")
        macs = {one.widths: one.macs for one in content.configurations}
        doubts = {c.widths: c.latency_doubt for c in content.configurations if c.latency_doubt}
        return cls(file.stem, content.device, content.groups, measured, macs, content.date, doubts)


def fitted(network: SlimmableNetwork, profile: Profile) -> Latency:
    """The latency on the profile's device, of any width configuration of ``network``.

    Its `LatencyTable` states the median error, relative to the measured ones, where each was left
    out of the fit in turn.

    Raises:
        CheckpointError: If the profile is of another network, or of too few configurations.
    """
    groups = tuple(group.name for group in network.space.groups)
    for theirs, ours in zip_longest(profile.groups, groups):
        if theirs != ours:
            raise CheckpointError(
                f"profile '{profile.name}' is of another network, with a channel group '{theirs}'; "
                f"expected '{ours}'"
            )
    exact = macs(network)
    for widths, stated in profile.macs.items():
        if not all(1 <= w <= f for w, f in zip(widths, network.space.full, strict=True)) or (
            exact(widths) != stated
        ):
            raise CheckpointError(
                f"profile '{profile.name}' is of another network, in which the widths "
                f"{'-'.join(map(str, widths))} have {stated:,.0f} MACs"
            )
    if len(profile.measured) < FEWEST:
        raise CheckpointError(
            f"profile '{profile.name}' has {len(profile.measured)} width configurations; expected "
            f"at least {FEWEST}, to predict others by"
        )
    operations = network.trace.operations
    full = network.space.full
    kinds = [_kind(operation, full) for operation in operations]
    widths_list = list(profile.measured)
    features = np.array([_features(operations, kinds, widths) for widths in widths_list])
    times = np.array([profile.measured[widths] for widths in widths_list])
    errors = []
    for left_out in range(len(times)):
        kept = np.arange(len(times)) != left_out
        predicted = features[left_out] @ _coefficients(features[kept], times[kept])
        errors.append(abs(predicted / times[left_out] - 1))
    constant, *others = _coefficients(features, times)
    coefficients = {
        operation.name: (constant / len(operations), others[2 * kind], others[2 * kind + 1])
        for operation, kind in zip(operations, kinds, strict=True)
    }
    table = LatencyTable(profile.device, coefficients, float(statistics.median(errors)))
    return Latency(network, table, name=f"latency@{profile.name}")


def _kind(operation: Operation, full: Widths) -> int:
    """0: without MACs; 1: with few per element, as depthwise convolutions; 2: with many."""
    macs = sum(term.at(full) for term in operation.macs)
    elements = sum(term.at(full) for term in operation.elements)
    return 0 if macs == 0 else 1 if macs < DENSE * elements else 2


def _features(operations: Sequence[Operation], kinds: Sequence[int], widths: Widths) -> list[float]:
    found = [1.0, *[0.0] * 6]
    for operation, kind in zip(operations, kinds, strict=True):
        found[1 + 2 * kind] += sum(term.at(widths) for term in operation.elements)
        found[2 + 2 * kind] += sum(term.at(widths) for term in operation.macs)
    return found


def _coefficients(features: np.ndarray, times: np.ndarray) -> list[float]:
    """By least squares relative to ``times``, none negative."""
    largest = features.max(axis=0).clip(min=1.0)
    found, _ = nnls(features / largest / times[:, None], np.ones(len(times)))
    return (found / largest).tolist()
