"""What a figure was measured on."""

import platform
from importlib.metadata import version

import torch

from joslim.machine.turns import processor

PACKAGES = ("torch", "botorch", "mlflow", "dvc", "prefect")


def describe() -> dict[str, str]:
    """Processor, cores, instruction set and versions."""
    return {
        "processor": processor(),
        "cores": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }
