"""One stored network for all budgets: its bytes, and what a switch of widths costs at run time.

Each network, with random weights, is saved with ten width configurations and loaded again. Printed
are the folder's bytes against those of its weights alone, the time to build a configuration and to
ask for it again, what ten configurations add to the memory of one, and the largest difference of an
output from the extracted network's. The last line is of the default run, after `dvc repro front`.
"""

import statistics
import tempfile
import time
from pathlib import Path

import psutil
import torch

import joslim
from benchmarks import machine
from joslim import costs
from joslim.supernet import Configuration, NetworkSpec, SlimmableModel, save_slimmable
from pipelines.settings import paths

NETWORKS = {
    "resnet20": 32, "torchvision:mobilenet_v2": 96, "torchvision:densenet121": 64,
    "torchvision:convnext_tiny": 64, "torchvision:vit_b_32": 224,
}  # fmt: skip
NUM_CONFIGURATIONS = 10
REPEATS = 1000


def main() -> None:
    torch.set_num_threads(1)
    print("| network | bytes | of its weights' | build | again | memory | difference |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, size in NETWORKS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(f"| `{name}` |", " | ".join(_row(Path(folder), name, size)), "|", flush=True)
    if paths.SLIMMABLE.exists():
        total, share = _bytes(paths.SLIMMABLE)
        print(f"| `{paths.SLIMMABLE}` | {total:,} | {share:.3f} × | | | | |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def _row(folder: Path, name: str, size: int) -> list[str]:
    torch.manual_seed(0)
    normalisation = (0.5,) * 3
    spec = NetworkSpec(name, 10, 3, size, normalisation, normalisation)
    network = spec.build().eval()
    generator = torch.Generator().manual_seed(0)
    found = [network.space.random(generator) for _ in range(NUM_CONFIGURATIONS)]
    macs = costs.macs(network)
    configurations = [
        (Configuration(f"w-{i}", w, {"macs": float(macs(w)), "val_top1": 0.0}), network.extract(w))
        for i, w in enumerate(found)
    ]
    save_slimmable(folder, network, spec, configurations, {"macs": float(macs.full)})
    total, share = _bytes(folder)
    model = joslim.load(folder)
    assert isinstance(model, SlimmableModel)
    image = torch.rand(2, 3, size, size, generator=generator)
    difference = 0.0
    builds = []
    memory = [psutil.Process().memory_info().rss]
    for configuration, _ in configurations:
        start = time.perf_counter()
        model.at(configuration.id)
        builds.append(1000 * (time.perf_counter() - start))
        memory.append(psutil.Process().memory_info().rss)
    start = time.perf_counter()
    for _ in range(REPEATS):
        model.at("w-0")
    again = 1e6 * (time.perf_counter() - start) / REPEATS
    with torch.inference_mode():
        for configuration, dense in configurations:
            outputs = model.at(configuration.id)(image), dense.eval()(image)
            difference = max(difference, (outputs[0] - outputs[1]).abs().max().item())
    return [
        f"{total:,}",
        f"{share:.3f} ×",
        f"{statistics.median(builds):.1f} ms",
        f"{again:.2f} µs",
        f"{memory[-1] / memory[1]:.3f} ×",
        f"{difference:g}",
    ]


def _bytes(folder: Path) -> tuple[int, float]:
    """Of all files in a folder, and how many times those of its weights."""
    total = sum(file.stat().st_size for file in folder.iterdir())
    return total, total / (folder / "weights.safetensors").stat().st_size


if __name__ == "__main__":
    main()
