"""The front as a table, worked by hand."""

import pytest
import torch
from torch import nn

import joslim
from joslim import costs, search
from joslim.evaluation import Measurement
from joslim.front import Candidate
from joslim.search import Strategy
from joslim.supernet.network import SlimmableNetwork
from pipelines.artifacts.front_table import (
    COLUMNS,
    candidate_table,
    front_metrics,
    parse_widths,
    subnetwork_id,
)

TOP1 = {4: 0.9, 1: 0.5, 3: 0.6, 2: 0.7}
"""By the channels of the only group; three have more errors than two, at a higher cost."""


def one_group() -> SlimmableNetwork:
    """With w of 4 channels: 4 w + 3 w MACs on four pixels, and 2 w + 3 w + 3 parameters."""
    layers = [nn.Conv2d(1, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return joslim.slimmable(nn.Sequential(*layers), torch.zeros(2, 1, 2, 2), min_width=0.25)


def measured(strategy: Strategy) -> list[Candidate]:
    sources = {1: "smallest", 2: "visited", 3: "proposed", 4: "full"}
    return [
        Candidate(
            (w,),
            strategy.cost((w,)),
            Measurement(2.0 - top1, top1, 1.0, 0.25, torch.zeros(3, 3)),
            sources[w],  # type: ignore[arg-type]
        )
        for w, top1 in TOP1.items()
    ]


def strategy_of(network: SlimmableNetwork, most_macs: float = 28) -> Strategy:
    macs, params = costs.macs(network), costs.params(network)
    return search.create(
        "slim", space=network.space, cost=params, seed=0, limits=[(macs, most_macs)]
    )


def test_a_row_per_candidate_cheapest_first() -> None:
    network = one_group()
    strategy = strategy_of(network)
    table = candidate_table(measured(strategy), strategy, network)
    assert set(COLUMNS) - set(table.columns) == {"latency_ms", "latency_spread"}, (
        "measured of the front only"
    )
    assert table["widths"].tolist() == ["1", "2", "3", "4"]
    assert table["id"].tolist() == [subnetwork_id((w,)) for w in (1, 2, 3, 4)]
    assert table["source"].tolist() == ["smallest", "visited", "proposed", "full"]
    assert table["objective"].tolist() == table["params"].tolist() == [8, 13, 18, 23]
    assert table["macs"].tolist() == [7, 14, 21, 28]
    assert table["macs_fraction"].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert table["val_top1"].tolist() == [0.5, 0.7, 0.6, 0.9]
    assert table["val_loss"].tolist() == [1.5, 1.3, 1.4, 1.1]
    assert table["on_front"].tolist() == [True, True, False, True]


def test_what_breaks_a_limit_is_not_on_the_front() -> None:
    network = one_group()
    strategy = strategy_of(network, most_macs=27)
    table = candidate_table(measured(strategy), strategy, network)
    assert table["on_front"].tolist() == [True, True, False, False]


def test_headline_numbers() -> None:
    strategy = strategy_of(one_group())
    # Below an error of 1 and a cost of 1: one channel, then what two have beyond that.
    hypervolume = (1 - 8 / 23) * (1 - 0.5) + (1 - 13 / 23) * (0.5 - 0.3)
    assert front_metrics(measured(strategy), strategy) == {
        "objective": "params",
        "hypervolume": pytest.approx(hypervolume, abs=1e-6),
        "num_front": 3,
        "num_candidates": 4,
        "full_val_top1": 0.9,
    }


def test_widths_come_back_from_their_text_and_have_a_name_of_their_own() -> None:
    widths = [(1, 12), (11, 2), (1, 1, 2), (112,)]
    assert [parse_widths("-".join(map(str, w))) for w in widths] == widths
    assert len({subnetwork_id(w) for w in widths}) == 4
    assert subnetwork_id((1, 12)) == "w-1aa38f1954", "as sha256sum says of 1-12"
