"""What the configurations of a network take on this machine, in the runtime that they ship for."""

import importlib.util
import tempfile
import warnings
from pathlib import Path

import torch

from joslim.costs.latency import device
from joslim.errors import ExportError
from joslim.machine.timing import latencies_ms
from joslim.shipping.onnx_bundle import PACKAGES, export_onnx
from joslim.shipping.run_bundle import profile
from joslim.supernet.slimmable_model import SlimmableModel


def has_onnx_runtime() -> bool:
    """Whether ONNX Runtime is installed, with what exports to it."""
    return all(importlib.util.find_spec(name) for name in PACKAGES)


def configuration_latencies(model: SlimmableModel) -> tuple[dict[str, float], str]:
    """Median milliseconds of each configuration for one image on one CPU thread.

    In ONNX Runtime, where it is installed with what exports to it; else, or where the network does
    not run there, in PyTorch, as it stands.

    Args:
        model: On the CPU.

    Returns:
        The milliseconds by configuration's id, and the device: processor, runtime, threads.
    """
    if has_onnx_runtime():
        try:
            with tempfile.TemporaryDirectory() as folder:
                export_onnx(model, Path(folder, "bundle"))
                found = profile(1, Path(folder, "bundle"))
            times = {one["id"]: float(one["latency_ms"]) for one in found["configurations"]}
            return times, str(found["device"])
        except ExportError as error:
            warnings.warn(f"latencies are PyTorch's, not ONNX Runtime's: {error}", stacklevel=2)
    image = torch.rand(1, *model.input_shape, generator=torch.Generator().manual_seed(0))
    ids = [configuration.id for configuration in model.configurations]
    milliseconds = latencies_ms([model.at(identity) for identity in ids], image)
    return {i: round(ms, 4) for i, ms in zip(ids, milliseconds, strict=True)}, device()
