"""Seconds for one proposal, by number of channel groups and of past width configurations.

    python -m benchmarks.proposals

Before each proposal the whole history gets new losses, as in training, so each one fits the
Gaussian process anew, from the hyperparameters of the last fit. Losses are synthetic; the network,
a chain of convolutions, and its MACs are real. Prints a Markdown table.
"""

import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import nn

import joslim
from benchmarks import machine
from joslim import costs, search
from joslim.search import Strategy
from joslim.widths import Widths

SIZES = ((24, 50), (24, 100), (24, 200), (24, 400), (24, 1000), (60, 200), (60, 1000))
"""Groups, and past width configurations."""

ROUNDS = 15
CHANNELS = 64
NOISE = 0.01
"""Standard deviation of a loss, in nats."""


def main() -> None:
    print("| groups | past widths | strategy | seconds, median | largest | farthest from target |")
    print("|---:|---:|---|---:|---:|---:|")
    for groups, past in SIZES:
        for name in ("joslim", "tpe"):
            print(row(name, groups, past), flush=True)
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.describe().items()))


def row(name: str, groups: int, past: int) -> str:
    """Ask a strategy that knows ``past`` random widths for `ROUNDS` proposals."""
    network = joslim.slimmable(chain(groups), torch.zeros(1, 3, 4, 4))
    cost, space = costs.macs(network), network.space
    strategy = search.create(name, space=space, cost=cost, seed=0, num_initial=0)
    generator = torch.Generator().manual_seed(0)
    loss = losses(strategy, generator)
    for widths in [space.full, *(space.random(generator) for _ in range(past - 1))]:
        strategy.tell(widths, loss(widths))
    strategy.ask(0.5)  # the first fit, from the prior, happens once in a training
    seconds, misses = [], []
    for target in torch.linspace(strategy.smallest_cost, 1.0, ROUNDS + 2)[1:-1].tolist():
        for widths in strategy.history.widths:
            strategy.tell(widths, loss(widths))
        start = time.perf_counter()
        widths = strategy.ask(target)
        seconds.append(time.perf_counter() - start)
        misses.append(abs(cost.fraction(widths) - target))
        strategy.tell(widths, loss(widths))
    return (
        f"| {groups} | {past} | {name} | {statistics.median(seconds):.3f} | {max(seconds):.3f} "
        f"| {max(misses):.4f} |"
    )


def chain(groups: int) -> nn.Module:
    """Convolutions of `CHANNELS` channels, each of which is a group."""
    sizes = [3, *[CHANNELS] * groups]
    convolutions = [nn.Conv2d(a, b, 1) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def losses(strategy: Strategy, generator: torch.Generator) -> Callable[[Widths], float]:
    """A noisy loss that falls with every width; early groups matter most."""
    relevance = torch.linspace(2.0, 0.2, len(strategy.space), dtype=torch.float64)

    def loss(widths: Widths) -> float:
        multipliers = strategy.space.multipliers(widths)
        noise = NOISE * torch.randn((), generator=generator).item()
        return float((relevance * torch.exp(-3 * multipliers)).mean()) + noise

    return loss


if __name__ == "__main__":
    main()
