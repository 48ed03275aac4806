"""Peak memory by formula against the storages that are alive as a dense network runs."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from small_transformers import TRANSFORMERS
from torch import nn
from torchvision.models import DenseNet

import joslim
from benchmarks.live_memory import peak_bytes

TOLERANCE = 0.05
"""As promised; these networks meet it exactly but for statistics of norms, and where heads that
are but one make a view of what is a copy for several."""

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet": partial(joslim.networks.create, "resnet8", 10),
    "densenet": lambda: DenseNet(8, (2, 3), 16, num_classes=10),
    **TRANSFORMERS,
}


@pytest.mark.parametrize("name", NETWORKS)
def test_memory_is_what_a_dense_network_holds(name: str):
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 64, 64)
    network = joslim.slimmable(NETWORKS[name](), image)
    generator = torch.Generator().manual_seed(0)
    memory = joslim.costs.memory(network)
    for widths in [network.space.full, *(network.space.random(generator) for _ in range(3))]:
        dense = network.extract(widths).eval()
        held = sum(tensor.nbytes for tensor in [*dense.parameters(), *dense.buffers()])
        measured = peak_bytes(dense, image)
        assert memory(widths) == pytest.approx(measured, rel=TOLERANCE)
        assert memory(widths) - held == pytest.approx(measured - held, rel=TOLERANCE)
