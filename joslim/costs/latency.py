"""Latency on this device: operations are timed once, then every width configuration is predicted.

A few random sub-networks run operation by operation. Each operation's time is fitted by what it
writes and what it multiplies,

    milliseconds = a + b · elements of its results + c · multiply-accumulates,    a, b, c >= 0,

so that a prediction has the closed form of the exact costs: vectorised, differentiable, and never
less for a wider network. A network whose operations compete for caches is slower than their sum;
one factor for the whole network, fitted to whole forward passes, makes up for that.
"""

import hashlib
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, fx

from joslim import distributed
from joslim.costs import Cost
from joslim.machine.threads import single_threaded
from joslim.machine.timing import time_models
from joslim.machine.turns import WARM_UP, Timing, doubts, processor, time_in_turns, today
from joslim.supernet.network import SlimmableNetwork
from joslim.tracing import Operation, Product
from joslim.widths import Widths

NUM_FITTED = 24
"""Width configurations that the fit sees."""

NUM_CHECKED = 8
"""Width configurations that tell its error."""

REPEATS = 9
"""Forward passes per width configuration; the median counts."""


@dataclass(frozen=True)
class LatencyTable:
    """What was measured of one network on one device.

    Attributes:
        device: Processor and versions.
        coefficients: ``(a, b, c)`` by operation, in milliseconds.
        median_error: Of predictions for other width configurations than those fitted, relative to
            whole forward passes.
        date: When it was measured, in UTC.
        doubt: Why the times may be too long, as the machine was busy; empty if nothing speaks for
            it.
    """

    device: str
    coefficients: Mapping[str, tuple[float, ...]]
    median_error: float
    date: str = ""
    doubt: str = ""


class Latency(Cost):
    """Predicted milliseconds of inference on one image, on one CPU thread.

    Attributes:
        table: What the prediction rests on.
    """

    is_whole: ClassVar[bool] = False

    def __init__(
        self, network: SlimmableNetwork, table: LatencyTable, name: str = "latency"
    ) -> None:
        self.table = table
        terms = [
            term
            for operation in network.trace.operations
            for term in _terms(operation, table.coefficients[operation.name])
        ]
        super().__init__(name, network.space, terms)


def load_or_measure(network: SlimmableNetwork, cache: Path) -> Latency:
    """The latency of ``network`` on this device; measured if ``cache`` does not hold it yet.

    Of processes that train together the first one looks and measures; all get the same.

    Args:
        network: On the CPU.
        cache: Folder of measured tables, one for each network, processor and version of PyTorch.
    """
    table = _load_or_measure(network, cache) if distributed.rank() == 0 else {}
    return Latency(network, LatencyTable(**distributed.broadcast(table)))


def _load_or_measure(network: SlimmableNetwork, cache: Path) -> dict[str, Any]:
    trace = network.trace
    content = [device(), trace.input_shape, trace.groups, trace.operations]
    file = cache / f"{hashlib.sha256(repr(content).encode()).hexdigest()[:16]}.json"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(measure(network)), indent=1) + "\n")
        draft.replace(file)
    table: dict[str, Any] = json.loads(file.read_text())
    return table


def device() -> str:
    """The device that latencies measured now are valid for: processor, versions, threads."""
    return f"{processor()}, torch {torch.__version__}, 1 thread"


def measure(network: SlimmableNetwork) -> LatencyTable:
    """Time the operations of random sub-networks; takes some hundred forward passes."""
    generator = torch.Generator().manual_seed(0)
    space, operations = network.space, network.trace.operations
    image = torch.rand(1, *network.trace.input_shape, generator=generator)
    fitted = [space.smallest, space.full]
    fitted += [space.random(generator) for _ in range(NUM_FITTED - len(fitted))]
    checked = [space.random(generator) for _ in range(NUM_CHECKED)]
    dense = {widths: network.extract(widths).eval() for widths in fitted + checked}
    timings = time_models(dense, image, repeats=REPEATS)
    whole = {widths: timing.milliseconds for widths, timing in timings.items()}
    graph = network.trace.graph
    samples = _time_operations({w: fx.GraphModule(dense[w], graph) for w in fitted}, image)
    coefficients = {
        operation.name: _fit(operation, fitted, [samples[w][operation.name] for w in fitted])
        for operation in operations
    }
    table = LatencyTable(device(), coefficients, median_error=0.0)
    sums = Latency(network, table)
    factor = statistics.median(whole[widths] / sums(widths) for widths in fitted)
    errors = [abs(factor * sums(widths) / whole[widths] - 1) for widths in checked]
    return LatencyTable(
        device(),
        {name: tuple(factor * c for c in found) for name, found in coefficients.items()},
        statistics.median(errors),
        today(),
        _doubt(timings),
    )


def _doubt(timings: Mapping[Widths, Timing]) -> str:
    """The one that most of the timings have."""
    found = doubts(timings)
    if not found:
        return ""
    reason = max(found, key=lambda text: len(found[text]))
    return f"of {len(found[reason])} of {len(timings)} sub-networks, {reason}"


def _terms(operation: Operation, coefficients: Sequence[float]) -> list[Product]:
    """The fitted time of an operation, as terms of a `Cost`."""
    call, element, mac = coefficients
    return [
        Product(call, ()),
        *(replace(term, scale=element * term.scale) for term in operation.elements),
        *(replace(term, scale=mac * term.scale) for term in operation.macs),
    ]


def _fit(
    operation: Operation, widths_list: Sequence[Widths], milliseconds: Sequence[float]
) -> tuple[float, ...]:
    """Coefficients of `_terms` by least squares, none negative."""
    features = np.array(
        [
            [
                1.0,
                sum(term.at(widths) for term in operation.elements),
                sum(term.at(widths) for term in operation.macs),
            ]
            for widths in widths_list
        ]
    )
    largest = features.max(axis=0).clip(min=1.0)
    found, _ = nnls(features / largest, np.array(milliseconds))
    return tuple((found / largest).tolist())


def _time_operations(
    networks: Mapping[Widths, fx.GraphModule], image: Tensor
) -> dict[Widths, dict[str, float]]:
    """Median milliseconds of each operation, by name."""
    stopwatches = {widths: _Stopwatch(network) for widths, network in networks.items()}
    with torch.no_grad(), single_threaded():
        time_in_turns({w: partial(s.run, image) for w, s in stopwatches.items()}, repeats=REPEATS)
    return {
        widths: {
            name: 1000 * statistics.median(times[WARM_UP:])
            for name, times in stopwatch.seconds.items()
        }
        for widths, stopwatch in stopwatches.items()
    }


class _Stopwatch(fx.Interpreter):
    """Notes how long every node takes, run after run."""

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module)
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def run_node(self, n: fx.Node) -> Any:
        start = time.perf_counter()
        result = super().run_node(n)
        self.seconds[n.name].append(time.perf_counter() - start)
        return result
