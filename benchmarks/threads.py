"""What one more CPU thread gains in training, by the work of a network's average operation.

    python -m benchmarks.threads

Weighs `joslim.training.threads.MACS_PER_THREAD`. Prints a Markdown table; threads wait as in the
stages.
"""

import statistics
import time

import torch

import joslim
import pipelines  # noqa: F401  sets how threads wait, before PyTorch starts any
from benchmarks import machine
from joslim import costs
from joslim.training.sandwich import sandwich_step

CASES = (
    ("torchvision:mobilenet_v2", 96, 32),
    ("resnet14-half", 28, 128),
    ("resnet14-half", 28, 512),
    ("resnet20", 28, 128),
    ("torchvision:resnet18", 64, 64),
)
ROUNDS = 5


def main() -> None:
    most = torch.get_num_threads()
    print(f"| network | image | batch | million MACs per operation | {most} threads against 1 |")
    print("|---|---|---|---|---|")
    for name, size, batch in CASES:
        work, gain = measure(name, size, batch, most)
        print(f"| {name} | {size} | {batch} | {work / 1e6:.0f} | {gain:.2f} × |", flush=True)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def measure(name: str, size: int, batch: int, most: int) -> tuple[float, float]:
    """MACs of the average operation, and how many times faster ``most`` threads are than one."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    network = joslim.slimmable(joslim.networks.create(name, 10), images[:2])
    network.to(memory_format=torch.channels_last).train()
    widths = [network.space.smallest, network.space.uniform(0.6), network.space.uniform(0.8)]
    seconds: dict[int, list[float]] = {1: [], most: []}
    for round_number in range(ROUNDS + 1):
        for threads, times in seconds.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            sandwich_step(network, images, labels, widths)
            if round_number > 0:
                times.append(time.perf_counter() - start)
    gain = statistics.median(seconds[1]) / statistics.median(seconds[most])
    return batch * costs.macs(network).full / len(network.trace.macs), gain


if __name__ == "__main__":
    main()
