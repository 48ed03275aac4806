"""What joint training costs: against dense networks and plain float32, in memory, for its data.

    python -m benchmarks.training

Prints Markdown. Ratios are of medians of steps taken in turns, in one run on otherwise idle cores.
"""

import multiprocessing
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.multiprocessing import spawn

import joslim
from benchmarks import machine
from joslim import distributed
from joslim.data import Augmentation, ImageSet, TrainingStream
from joslim.machine.device import training_precision
from joslim.machine.memory_format import fast_memory_format
from joslim.machine.mixed_precision import autocast, suited_to_autocast
from joslim.supernet.network import SlimmableNetwork
from joslim.training.losses import distillation_loss
from joslim.training.sandwich import sandwich_step
from joslim.widths import Widths

CASES = {
    "resnet20": ("resnet20", 32, 128),
    "mobilenet_v2": ("torchvision:mobilenet_v2", 96, 32),
}
"""Name, image size, batch."""
STREAMS = {"Fashion-MNIST": (1, 28), "CIFAR": (3, 32)}
"""Channels and size of the images."""
ROUNDS = 21
PRECISION = training_precision("auto", torch.device("cpu"))


def main() -> None:
    print("| network | step against dense networks | against plain float32 | peak memory |")
    print("|---|---:|---:|---:|")
    for name in CASES:
        dense, plain, memory = against_dense(name), against_plain(name), peak_memory(name)
        print(f"| `{name}` | {dense:.3f} × | {plain:.2f} × | {memory:.2f} × |", flush=True)
    print("\n| images | reading and augmenting, of a step of `resnet20` |")
    print("|---|---:|")
    for images in STREAMS:
        print(f"| {images} | {reading(images):.1%} |", flush=True)
    print("\n| network | two processes against two threads, images/s |")
    print("|---|---:|")
    for name in CASES:
        print(f"| `{name}` | {two_processes(name):.2f} × |", flush=True)
    print("\n| network | full width by `torch.compile`, against eager | compiling took |")
    print("|---|---:|---:|")
    for name in CASES:
        ratio, seconds = compiled(name)
        print(f"| `{name}` | {ratio:.2f} × | {seconds:.0f} s |", flush=True)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def against_dense(name: str) -> float:
    """Time of a sandwich step over that of separate dense networks of the same widths."""
    network, images, labels, widths_list = case(name)
    teacher = network.extract(network.space.full)
    students = [network.extract(widths) for widths in widths_list]

    def separately() -> None:
        with autocast(images.device, PRECISION):
            logits = teacher(images)
        F.cross_entropy(logits.float(), labels).backward()
        for student in students:
            with autocast(images.device, PRECISION):
                student_logits = student(images)
            distillation_loss(student_logits.float(), logits.detach().float(), labels).backward()

    jointly, apart = in_turns(lambda: step(network, images, labels, widths_list), separately)
    return jointly / apart


def against_plain(name: str) -> float:
    """Time of a sandwich step over its time in float32 and PyTorch's default layout."""
    network, images, labels, widths_list = case(name)
    plain, plain_images, _, _ = case(name, torch.contiguous_format)
    chosen, contiguous = in_turns(
        lambda: step(network, images, labels, widths_list),
        lambda: sandwich_step(plain, plain_images, labels, widths_list),
    )
    return chosen / contiguous


def peak_memory(name: str) -> float:
    """Most memory of a process that takes sandwich steps, over that for the full network alone."""
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        whole, alone = (pool.apply(_peak, (name, sampled)) for sampled in (True, False))
    return whole / alone


def _peak(name: str, sampled: bool) -> int:
    """Most resident kilobytes of this process."""
    network, images, labels, widths_list = case(name)
    for _ in range(3):
        network.zero_grad()
        step(network, images, labels, widths_list if sampled else [])
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s*(\d+)", status)[0])


def reading(images: str) -> float:
    """Time of a batch, with crop and flip, over that of a sandwich step of ResNet-20 on it."""
    channels, size = STREAMS[images]
    pixels = torch.randint(0, 256, (50_000, channels, size, size), dtype=torch.uint8)
    data = ImageSet(pixels, torch.randint(0, 10, (50_000,)))
    stream = TrainingStream(data, 128, seed=0, augmentation=Augmentation(4, flip=True))
    network, batch_images, labels, widths_list = case("resnet20")
    steps = iter(range(10**9))
    batch, trained = in_turns(
        lambda: stream.batch(next(steps)),
        lambda: step(network, batch_images, labels, widths_list),
    )
    return batch / (batch + trained)


def two_processes(name: str) -> float:
    """Images per second of two processes with a thread each, over one's with two threads."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(3):
        for size, medians in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                spawn(_step_seconds, (size, name, folder), nprocs=size)
                medians.append(float(Path(folder, "result").read_text()))
    return statistics.median(seconds[1]) / statistics.median(seconds[2])


def _step_seconds(rank: int, size: int, name: str, folder: str) -> None:
    """Write the median of the first process's steps."""
    torch.set_num_threads(2 // size)
    dist.init_process_group("gloo", init_method=f"file://{folder}/0", rank=rank, world_size=size)
    network, images, labels, widths_list = case(name)
    parallel = distributed.data_parallel(distributed.with_joint_batchnorm(network))
    part = slice(rank, None, size)
    (median,) = in_turns(lambda: step(parallel, images[part], labels[part], widths_list))
    if rank == 0:
        Path(folder, "result").write_text(str(median))
    dist.destroy_process_group()


def compiled(name: str) -> tuple[float, float]:
    """Time of the full network's passes by `torch.compile` over eager; seconds to compile.

    Fewer seconds if the compiler finds the network in its cache on disk.
    """
    network, images, labels, _ = case(name)
    eager = network.extract(network.space.full)
    fast = torch.compile(eager)

    def passes(model: Callable[[Tensor], Tensor]) -> None:
        with autocast(images.device, PRECISION):
            logits = model(images)
        F.cross_entropy(logits.float(), labels).backward()

    start = time.perf_counter()
    passes(fast)
    seconds = time.perf_counter() - start
    fused, plain = in_turns(lambda: passes(fast), lambda: passes(eager))
    return fused / plain, seconds


def step(
    network: nn.Module, images: Tensor, labels: Tensor, widths_list: list[Widths]
) -> tuple[float, ...]:
    """A sandwich step as training takes it with ``precision: auto``."""
    return sandwich_step(network, images, labels, widths_list, precision=PRECISION)


def case(
    name: str, layout: torch.memory_format | None = None
) -> tuple[SlimmableNetwork, Tensor, Tensor, list[Widths]]:
    """A network in train mode that suits `PRECISION`, a batch, and the sub-networks of a step."""
    network_name, size, batch = CASES[name]
    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, size, size), torch.randint(0, 10, (batch,))
    network = joslim.slimmable(joslim.networks.create(network_name, 10), images[:2]).train()
    layout = layout or fast_memory_format(network.extract(network.space.smallest))
    generator = torch.Generator().manual_seed(0)
    sampled = [network.space.random(generator) for _ in range(2)]
    network.to(memory_format=layout)
    suited = cast(SlimmableNetwork, suited_to_autocast(network, images.device, PRECISION))
    return suited, images.to(memory_format=layout), labels, [network.space.smallest, *sampled]


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
