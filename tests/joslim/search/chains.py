"""A chain of layers with a cost and a loss that are known exactly."""

import torch

from joslim.search import create
from joslim.widths import ChannelGroup, WidthSpace


class ChainCost:
    """MACs of a chain of 1x1 convolutions: the sum of products of neighbouring widths."""

    name = "macs"

    def __init__(self, space):
        self.space = space
        self.full, self.smallest = self(space.full), self(space.smallest)

    def __call__(self, widths):
        if not isinstance(widths, torch.Tensor):
            return round(self(torch.tensor([widths], dtype=torch.float64)).item())
        return (widths[:, 1:] * widths[:, :-1]).sum(1) + widths[:, 0]

    def fraction(self, widths):
        return self(widths) / self.full


class FirstGroups(ChainCost):
    """Channels of the first half of the groups."""

    name = "params"

    def __call__(self, widths):
        if not isinstance(widths, torch.Tensor):
            return round(self(torch.tensor([widths], dtype=torch.float64)).item())
        return widths[:, : len(self.space) // 2].sum(1)


def chain(d, full=64, divisor=4, smallest=24):
    """``d`` searchable groups between a frozen first one and a frozen last one."""
    ends = [ChannelGroup(name, 3, 3, 1, (name,), frozen="image") for name in ("in", "out")]
    groups = [ChannelGroup(f"g{i}", full, smallest, divisor, (f"g{i}",)) for i in range(d)]
    return WidthSpace((ends[0], *groups, ends[1]))


def true_loss(space, widths):
    """Falls with every width; early groups matter most."""
    multipliers = space.multipliers(widths)[list(space.searchable)]
    relevance = torch.linspace(2.0, 0.2, len(multipliers), dtype=torch.float64)
    return float((relevance * torch.exp(-3 * multipliers)).mean())


def make(name, d=4, seed=0, **options):
    space = chain(d)
    return create(name, space=space, cost=ChainCost(space), seed=seed, **options)


def observed(name, n=30, d=4, seed=0, **options):
    """A strategy that was told ``n`` random widths and both ends."""
    strategy = make(name, d, seed, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    random = [strategy.space.random(generator) for _ in range(n)]
    for widths in (strategy.space.smallest, strategy.space.full, *random):
        strategy.tell(widths, true_loss(strategy.space, widths))
    return strategy
