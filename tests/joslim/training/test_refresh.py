"""Today's losses: measured where the budget reaches, corrected where it does not."""

import numpy as np
import pytest
import torch
from torch import Tensor

import joslim
from joslim import costs, search
from joslim.search import Strategy
from joslim.supernet.batch_norm import batch_statistics
from joslim.supernet.network import SlimmableNetwork
from joslim.training.refresh import FEWEST, MAX_BATCH, _line, refresh_history
from joslim.widths import Widths

IMAGES = torch.rand(32, 1, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def network() -> SlimmableNetwork:
    torch.manual_seed(0)
    model = joslim.networks.create("resnet8-half", 10, in_channels=1)
    return joslim.slimmable(model, IMAGES[:2]).train()


@pytest.fixture
def strategy(network: SlimmableNetwork) -> Strategy:
    return search.create("joslim", space=network.space, cost=costs.macs(network), seed=0)


def some_widths(network: SlimmableNetwork, n: int) -> list[Widths]:
    generator = torch.Generator().manual_seed(1)
    return [network.space.random(generator) for _ in range(n)]


@torch.no_grad()
def true_loss(network: SlimmableNetwork, widths: Widths) -> float:
    with batch_statistics(network):
        predicted = network(IMAGES, network.space.full).softmax(dim=1)
        return -(predicted * network(IMAGES, widths).log_softmax(dim=1)).sum(dim=1).mean().item()


def told(strategy: Strategy) -> dict[Widths, float]:
    history: Tensor = strategy.history.losses
    return dict(zip(strategy.history.widths, history.tolist(), strict=True))


def test_without_a_budget_all_are_measured(network: SlimmableNetwork, strategy: Strategy) -> None:
    visited = some_widths(network, 5)
    assert refresh_history(network, strategy, visited, IMAGES) == visited
    assert told(strategy) == pytest.approx({w: true_loss(network, w) for w in visited})


def test_the_rest_follow_the_line_of_those_measured_again(
    network: SlimmableNetwork, strategy: Strategy
) -> None:
    visited = some_widths(network, 10)
    today = {widths: true_loss(network, widths) for widths in visited}
    for widths, loss in today.items():
        strategy.tell(widths, loss + 1)
    order = refresh_history(network, strategy, visited, IMAGES, max_macs=1)
    assert order == [*visited[FEWEST:], *visited[:FEWEST]]
    assert told(strategy) == pytest.approx(today, rel=1e-4)


def test_the_line_is_least_squares_beside_pairs_that_kept_their_distances() -> None:
    last = np.linspace(1, 2, 1000)
    slope, offset = _line([(x, 0.5 * x + 0.3) for x in last], spread=last.std())
    assert (slope, offset) == pytest.approx((0.5, 0.3), abs=0.01)
    slope, offset = _line([(1.0, 0.8), (1.001, 0.7)], spread=0.5)
    assert slope == pytest.approx(1, abs=1e-3)
    assert slope * 1.0005 + offset == pytest.approx(0.75)
    assert _line([(1.0, 0.8), (1.0, 0.7)], spread=0.0) == pytest.approx((1, -0.25))
    assert _line([(1.0, 2.0), (2.0, 1.0)], spread=0.1)[0] >= 0


def test_new_and_known_ones_take_turns_and_the_other_new_ones_are_forgotten(
    network: SlimmableNetwork, strategy: Strategy
) -> None:
    old, new = some_widths(network, 9)[:6], some_widths(network, 9)[6:]
    for widths in old:
        strategy.tell(widths, 3.0)
    order = refresh_history(network, strategy, [*new, *old], IMAGES, max_macs=1)
    assert order == [*old[2:], new[0], old[0], new[1], old[1]]
    expected = {widths: true_loss(network, widths) for widths in [*new[:2], *old[:2]]}
    found = told(strategy)
    assert {widths: found[widths] for widths in expected} == pytest.approx(expected)
    middle = sum(expected[widths] for widths in old[:2]) / 2
    assert [found[widths] for widths in old[2:]] == pytest.approx([middle] * 4)
    assert new[2] not in found


def test_a_budget_buys_as_many_as_it_pays_for(
    network: SlimmableNetwork, strategy: Strategy
) -> None:
    visited = some_widths(network, 12)
    for widths in visited:
        strategy.tell(widths, 3.0)
    macs = costs.macs(network)
    budget = len(IMAGES) * (macs.full + sum(macs(widths) for widths in visited[:7]))
    order = refresh_history(network, strategy, visited, IMAGES, max_macs=budget)
    assert order == [*visited[7:], *visited[:7]]


def test_many_images_are_measured_in_equal_parts(
    network: SlimmableNetwork, strategy: Strategy
) -> None:
    images = torch.rand(2 * MAX_BATCH + 2, 1, 12, 12)
    (widths,) = some_widths(network, 1)
    means = []
    for part in images.tensor_split(3):
        refresh_history(network, strategy, [widths], part)
        means.append(told(strategy)[widths] * len(part))
    refresh_history(network, strategy, [widths], images)
    assert told(strategy)[widths] == pytest.approx(sum(means) / len(images))
