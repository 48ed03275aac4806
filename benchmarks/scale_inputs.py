"""What `benchmarks.scale` measures on this machine, on one thread of it."""

import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from joslim import search
from joslim.costs import Cost
from joslim.data.decoding import decode, to_tensor
from joslim.supernet.network import SlimmableNetwork
from joslim.supernet.private import statistics
from joslim.supernet.storage import save_supernet
from joslim.training.checkpoint import save_checkpoint
from joslim.training.optimizer import make_optimizer
from joslim.widths import Widths
from pipelines.settings.params import Params

PAST = (100, 500, 1000)
"""Width configurations that are known when a proposal is timed."""


def decoding(params: Params) -> tuple[float, int]:
    """Images per second that are decoded and augmented, and the bytes of such an image.

    It has 500 × 375 pixels of smooth noise.
    """
    coarse = torch.rand(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))
    pixels = torch.nn.functional.interpolate(coarse, (375, 500), mode="bicubic")[0].clamp(0, 1)
    file = io.BytesIO()
    Image.fromarray((255 * pixels.permute(1, 2, 0)).byte().numpy()).save(file, "jpeg", quality=96)
    transform = params.training.augmentation.for_one(params.data.image_size)
    assert transform is not None

    def read() -> None:
        picture = decode(Path("noise.jpg"), params.data.channels, "white", file.getvalue())
        transform(to_tensor(picture.image))

    return 1 / cpu_seconds(read, 25), len(file.getvalue())


def proposing(cost: Cost, network: SlimmableNetwork) -> list[float]:
    """Seconds of a proposal with a fit of its own, after `PAST` random width configurations."""
    strategy = search.create("joslim", space=network.space, cost=cost, seed=0, num_initial=0)
    generator = torch.Generator().manual_seed(0)
    known: list[Widths] = []

    def propose() -> None:
        for widths in known:
            noise = 0.01 * torch.randn((), generator=generator).item()
            strategy.tell(widths, 3 - cost.fraction(widths) + noise)
        strategy.ask(0.5)

    found = []
    for past in PAST:
        known += [network.space.random(generator) for _ in range(past - len(known))]
        propose()  # the first fit of all starts from the prior
        found.append(cpu_seconds(propose, 7))
    return found


def forward(network: SlimmableNetwork, widths: Widths, params: Params) -> float:
    """Images per second through the network at ``widths``, as the front measures it."""
    model = network.extract(widths).eval()
    images = torch.zeros(16, params.data.channels, *(params.data.image_size,) * 2)
    with torch.no_grad():
        return len(images) / cpu_seconds(lambda: model(images), 9)


def sizes(network: SlimmableNetwork, widths: Widths, params: Params) -> tuple[int, int, int]:
    """Bytes of a checkpoint, but for its history, of the weights, and of a configuration's own."""
    optimizer = make_optimizer(network, params.training)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict()}
    private = statistics(network.extract(widths)).values()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, weights = Path(folder, "checkpoint.pt"), Path(folder, "supernet")
        save_checkpoint(checkpoint, state)
        save_supernet(weights, network, params.network_spec(1000))
        size = (weights / "weights.safetensors").stat().st_size
        return checkpoint.stat().st_size, size, sum(t.numel() * t.itemsize for t in private)


def cpu_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median of this process's processor time, which other processes hardly change."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return float(np.median(times))
