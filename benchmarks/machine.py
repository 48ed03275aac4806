"""What a figure was measured on."""

import platform
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGES = ("torch", "botorch", "mlflow", "dvc", "prefect")


def describe() -> dict[str, str]:
    """Processor, cores, instruction set and versions."""
    return {
        "processor": _processor(),
        "cores": str(torch.get_num_threads()),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
