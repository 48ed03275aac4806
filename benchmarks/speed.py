"""What slimmable networks cost beside their dense twins, in time and in memory.

    python -m benchmarks.speed

Prints Markdown: peak memory against live storages, and the times of building, counting and slicing.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import nn
from torchvision.models import VisionTransformer

import joslim
from benchmarks import machine
from benchmarks.live_memory import peak_bytes

NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet20": (lambda: joslim.networks.create("resnet20", 10), 32),
    "resnet18": (lambda: joslim.networks.create("torchvision:resnet18", 10), 64),
    "mobilenet_v2": (lambda: joslim.networks.create("torchvision:mobilenet_v2", 10), 64),
    "densenet121": (lambda: joslim.networks.create("torchvision:densenet121", 10), 64),
    "convnext_tiny": (lambda: joslim.networks.create("torchvision:convnext_tiny", 10), 64),
    "swin_t": (lambda: joslim.networks.create("torchvision:swin_t", 10), 64),
    "swin_v2_t": (lambda: joslim.networks.create("torchvision:swin_v2_t", 10), 64),
    "vit, 2 layers": (lambda: VisionTransformer(64, 16, 2, 12, 768, 3072, num_classes=10), 64),
}
NUM_WIDTHS = 5
ROUNDS = 51


def main() -> None:
    torch.manual_seed(0)
    print("| network | image | largest error of peak memory | of its activations |")
    print("|---|---:|---:|---:|")
    for name, (build, size) in NETWORKS.items():
        whole, activations = memory_errors(build(), size)
        print(f"| `{name}` | {size} | {whole:.2%} | {activations:.2%} |", flush=True)
    print(f"\nbuilding ResNet-50's space: {building_seconds():.2f} s")
    for name, milliseconds in counting_ms().items():
        print(f"{name} of 10,000 width configurations of ResNet-50: {milliseconds:.1f} ms")
    print(f"forward at widths against the dense network: {slicing_ratio():.3f} ×")
    print(", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def memory_errors(model: nn.Module, size: int) -> tuple[float, float]:
    """Largest relative error over random widths: of the peak, and of its part without weights."""
    image = torch.zeros(1, 3, size, size)
    network = joslim.slimmable(model, image)
    memory, generator = joslim.costs.memory(network), torch.Generator().manual_seed(0)
    whole, activations = 0.0, 0.0
    for _ in range(NUM_WIDTHS):
        widths = network.space.random(generator)
        dense = network.extract(widths).eval()
        held = sum(tensor.nbytes for tensor in [*dense.parameters(), *dense.buffers()])
        measured = peak_bytes(dense, image)
        error = abs(memory(widths) - measured)
        whole = max(whole, error / measured)
        activations = max(activations, error / (measured - held))
    return whole, activations


def building_seconds() -> float:
    model = joslim.networks.create("torchvision:resnet50", 1000)
    image = torch.zeros(1, 3, 224, 224)
    start = time.perf_counter()
    joslim.slimmable(model, image)
    return time.perf_counter() - start


def counting_ms() -> dict[str, float]:
    """Median milliseconds for 10,000 width configurations of ResNet-50, by cost."""
    model = joslim.networks.create("torchvision:resnet50", 1000)
    network = joslim.slimmable(model, torch.zeros(1, 3, 64, 64))
    full = torch.tensor([network.space.full], dtype=torch.float64)
    widths = (torch.rand(10_000, len(network.space), dtype=torch.float64) * full).ceil()
    medians = {}
    for name, make in joslim.costs.COSTS.items():
        cost = make(network)
        medians[name] = 1000 * statistics.median(_seconds(cost, widths) for _ in range(ROUNDS))
    return medians


@torch.no_grad()
def slicing_ratio() -> float:
    """Time of ResNet-20 at given widths over its extracted twin's, batch 128: the median over
    random widths of the ratio of medians, both run in turns."""
    images = torch.randn(128, 3, 32, 32)
    network = joslim.slimmable(joslim.networks.create("resnet20", 10), images[:2]).eval()
    generator = torch.Generator().manual_seed(0)
    ratios = []
    for _ in range(NUM_WIDTHS):
        widths = network.space.random(generator)
        dense = network.extract(widths).eval()
        sliced, whole = [], []
        for _ in range(ROUNDS):
            sliced.append(_seconds(network, images, widths))
            whole.append(_seconds(dense, images))
        ratios.append(statistics.median(sliced) / statistics.median(whole))
    return statistics.median(ratios)


def _seconds(work: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
