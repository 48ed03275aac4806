"""Candidates for the front, where a strategy searches after training."""

import pytest
import torch
import torch.nn.functional as F

import joslim
from joslim import costs, search
from joslim.data import ImageSet
from joslim.front import Subnetworks, measure_candidates, num_candidates
from joslim.supernet.batch_norm import batch_statistics


def test_two_stage_searches_by_losses_measured_as_training_measures_them() -> None:
    torch.manual_seed(0)
    network = joslim.slimmable(
        joslim.networks.create("resnet8-half", 10, in_channels=1), torch.zeros(2, 1, 12, 12)
    )
    strategy = search.create("two-stage", space=network.space, cost=costs.macs(network), seed=0)
    for widths in (network.space.smallest, network.space.full):
        strategy.tell(widths, 1.0)
    data = ImageSet(
        torch.randint(0, 256, (64, 1, 12, 12), dtype=torch.uint8), torch.arange(64) % 10
    )
    assert num_candidates(strategy, num_proposals=3) == 6, "the front of the two, and one of them"
    measured = measure_candidates(
        Subnetworks(network, data, 32), strategy, data, num_proposals=3, refresh_images=32
    )
    found = list(measured)
    assert len({candidate.widths for candidate in found}) == len(found)
    told = dict(zip(strategy.history.widths, strategy.history.losses.tolist(), strict=True))
    proposed = [candidate.widths for candidate in found if candidate.source == "proposed"]
    assert len(proposed) == 3
    images = data.images[:32].float() / 255
    for widths in proposed:
        with torch.no_grad(), batch_statistics(network):
            predicted = network(images, network.space.full).softmax(dim=1)
            loss = F.cross_entropy(network(images, widths), predicted).item()
        assert told[widths] == pytest.approx(loss)
