"""What joint training costs: against dense networks, in another layout, in memory, for its data.

    python -m benchmarks.training

Prints Markdown. Ratios are medians of steps taken in turns, in one process.
"""

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

import joslim
from benchmarks import machine
from joslim.data import Augmentation, ImageSet, TrainingStream
from joslim.losses import distillation_loss
from joslim.memory_format import fast_memory_format
from joslim.sandwich import sandwich_step
from joslim.slimmable_network import SlimmableNetwork

CASES = {
    "resnet20": ("resnet20", 32, 128),
    "mobilenet_v2": ("torchvision:mobilenet_v2", 96, 32),
}
"""Name, image size, batch."""
STREAMS = {"Fashion-MNIST": (1, 28), "CIFAR": (3, 32)}
"""Channels and size of the images."""
ROUNDS = 21


def main() -> None:
    print("| network | step against dense networks | against contiguous layout | peak memory |")
    print("|---|---:|---:|---:|")
    for name in CASES:
        dense, layout, memory = against_dense(name), against_contiguous(name), peak_memory(name)
        print(f"| `{name}` | {dense:.3f} × | {layout:.2f} × | {memory:.2f} × |", flush=True)
    print("\n| images | reading and augmenting, of a step of `resnet20` |")
    print("|---|---:|")
    for images in STREAMS:
        print(f"| {images} | {reading(images):.1%} |")
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def against_dense(name: str) -> float:
    """Time of a sandwich step over that of separate dense networks of the same widths."""
    network, images, labels, widths_list = case(name)
    teacher = network.extract(network.space.full)
    students = [network.extract(widths) for widths in widths_list]

    def separately() -> None:
        logits = teacher(images)
        F.cross_entropy(logits, labels).backward()
        for student in students:
            distillation_loss(student(images), logits.detach(), labels).backward()

    jointly, apart = in_turns(
        lambda: sandwich_step(network, images, labels, widths_list), separately
    )
    return jointly / apart


def against_contiguous(name: str) -> float:
    """Time of a sandwich step in the layout that training chooses over the default layout's."""
    network, images, labels, widths_list = case(name)
    plain, plain_images, _, _ = case(name, torch.contiguous_format)
    chosen, contiguous = in_turns(
        lambda: sandwich_step(network, images, labels, widths_list),
        lambda: sandwich_step(plain, plain_images, labels, widths_list),
    )
    return chosen / contiguous


def peak_memory(name: str) -> float:
    """What a process needs for a sandwich step over what it needs for the full network's."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(1, maxtasksperchild=1) as pool:
        whole, alone = (pool.apply(_peak, (name, sampled)) for sampled in (True, False))
    return whole / alone


def _peak(name: str, sampled: bool) -> int:
    """Kilobytes that two steps add to the process."""
    network, images, labels, widths_list = case(name)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(2):
        network.zero_grad()
        sandwich_step(network, images, labels, widths_list if sampled else [])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before


def reading(images: str) -> float:
    """Time of a batch, with crop and flip, over that of a sandwich step of ResNet-20 on it."""
    channels, size = STREAMS[images]
    pixels = torch.randint(0, 256, (50_000, channels, size, size), dtype=torch.uint8)
    data = ImageSet(pixels, torch.randint(0, 10, (50_000,)))
    stream = TrainingStream(data, 128, seed=0, augmentation=Augmentation(4, flip=True))
    network, batch_images, labels, widths_list = case("resnet20")
    steps = iter(range(10**9))
    batch, step = in_turns(
        lambda: stream.batch(next(steps)),
        lambda: sandwich_step(network, batch_images, labels, widths_list),
    )
    return batch / (batch + step)


def case(
    name: str, layout: torch.memory_format | None = None
) -> tuple[SlimmableNetwork, torch.Tensor, torch.Tensor, list[tuple[int, ...]]]:
    """A network in train mode, a batch, and the sub-networks of a step."""
    network_name, size, batch = CASES[name]
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))
    network = joslim.slimmable(joslim.networks.create(network_name, 10), images[:2]).train()
    layout = layout or fast_memory_format(network.extract(network.space.smallest))
    generator = torch.Generator().manual_seed(0)
    sampled = [network.space.random(generator) for _ in range(2)]
    network.to(memory_format=layout)
    return network, images.to(memory_format=layout), labels, [network.space.smallest, *sampled]


def in_turns(*works: Callable[[], object]) -> list[float]:
    """Median seconds of each."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, taken in zip(works, times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


if __name__ == "__main__":
    main()
