from collections.abc import Iterator

import pytest
import torch

import joslim
from joslim import costs
from joslim.training.threads import MACS_PER_THREAD, use_suitable_threads


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def batch_with(work: float) -> tuple[joslim.SlimmableNetwork, int]:
    """A network, and the batch size at which its average operation has so many MACs."""
    network = joslim.slimmable(joslim.networks.create("resnet8", 10), torch.zeros(1, 3, 8, 8))
    per_image = costs.macs(network).full / len(network.trace.macs)
    return network, round(work / per_image)


@pytest.mark.parametrize(("share", "expected"), [(0.1, 1), (1.5, 1), (2.5, 2), (100, 4)])
def test_a_thread_for_every_so_many_macs_up_to_those_there_are(share: float, expected: int) -> None:
    assert use_suitable_threads(*batch_with(share * MACS_PER_THREAD)) == expected
    assert torch.get_num_threads() == expected
