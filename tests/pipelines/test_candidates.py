"""Candidates for the front, where a strategy searches after training."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import joslim
from joslim import costs, search
from joslim.calibration import batch_statistics
from joslim.data import ImageSet
from pipelines.front import Subnetworks, measure_candidates, parse_widths
from pipelines.params import read_params

PARAMS = Path(__file__).parents[2] / "params.yaml"


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
    params = read_params(PARAMS)
    params = params.model_copy(
        update={
            "front": params.front.model_copy(update={"num_proposals": 3}),
            "training": params.training.model_copy(update={"refresh_images": 32}),
        }
    )
    table = measure_candidates(Subnetworks(network, data, 32), strategy, data, params)
    told = dict(zip(strategy.history.widths, strategy.history.losses.tolist(), strict=True))
    proposed = [parse_widths(w) for w in table.loc[table["source"] == "proposed", "widths"]]
    assert len(proposed) == 3
    images = data.images[:32].float() / 255
    for widths in proposed:
        with torch.no_grad(), batch_statistics(network):
            predicted = network(images, network.space.full).softmax(dim=1)
            loss = F.cross_entropy(network(images, widths), predicted).item()
        assert told[widths] == pytest.approx(loss)
