"""What the configurations of a network take on this machine, in the runtime that they ship for."""

import importlib.util
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from joslim.costs.latency import device
from joslim.errors import ExportError
from joslim.machine.timing import time_models
from joslim.machine.turns import Timing, today
from joslim.shipping.onnx_bundle import PACKAGES, export_onnx
from joslim.shipping.run_bundle import COSTS, profile
from joslim.supernet.slimmable_model import SlimmableModel


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed, with what exports to it."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


@dataclass(frozen=True)
class Latencies:
    """What was measured of a network's configurations.

    Attributes:
        timings: By configuration's id.
        device: Processor, runtime, threads.
        date: In UTC, as ``2026-01-31``.
    """

    timings: Mapping[str, Timing]
    device: str
    date: str


def configuration_latencies(model: SlimmableModel) -> Latencies:
    """Time each configuration with one image on one CPU thread.

    In ONNX Runtime, where it is installed with what exports to it; else, or where the network does
    not run there, in PyTorch, as it stands.

    Args:
        model: On the CPU.
    """
    if has_onnx_runtime():
        try:
            with tempfile.TemporaryDirectory() as folder:
                export_onnx(model, Path(folder, "bundle"))
                found = profile(1, Path(folder, "bundle"))
            timings = {
                one["id"]: Timing(one["latency_ms"], one["latency_spread"], one["latency_doubt"])
                for one in found["configurations"]
            }
            return Latencies(timings, found["device"], found["date"])
        except ExportError as error:
            warnings.warn(f"latencies are PyTorch's, not ONNX Runtime's: {error}", stacklevel=2)
    image = torch.rand(1, *model.input_shape, generator=torch.Generator().manual_seed(0))
    found = {c.id: c.numbers for c in model.configurations}
    known = [column for column in COSTS if all(column in numbers for numbers in found.values())]
    costs = {identity: [numbers[c] for c in known] for identity, numbers in found.items()}
    timings = time_models({identity: model.at(identity) for identity in found}, image, costs)
    return Latencies(timings, device(), today())
