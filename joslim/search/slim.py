"""One multiplier for all groups: the universally slimmable networks.

Source: Yu and Huang, *Universally Slimmable Networks and Improved Training Techniques*, ICCV 2019.
"""

from typing import ClassVar

import torch

from joslim.costs import Cost
from joslim.search.strategy import Strategy
from joslim.widths import Widths, WidthSpace


class Slim(Strategy):
    """Draws one random multiplier for all groups; nothing is searched."""

    name: ClassVar[str] = "slim"

    def _draw(self, generator: torch.Generator) -> Widths:
        return uniform_between(self.space, torch.rand((), generator=generator).item())

    def _aim(self, target_cost: float, generator: torch.Generator) -> Widths:
        return uniform_at(self.space, self.cost, target_cost)


def uniform_between(space: WidthSpace, position: float) -> Widths:
    """Uniform widths from the smallest sub-network (position 0) to the full one (1)."""
    smallest = min(group.smallest / group.full for group in space.groups)
    return space.uniform(smallest + position * (1 - smallest))


def uniform_at(space: WidthSpace, cost: Cost, target_cost: float) -> Widths:
    """The uniform widths whose cost is nearest to ``target_cost``, a fraction of the full one."""
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        too_cheap = cost.fraction(uniform_between(space, middle)) < target_cost
        low, high = (middle, high) if too_cheap else (low, middle)
    neighbours = uniform_between(space, low), uniform_between(space, high)
    return min(neighbours, key=lambda widths: abs(cost.fraction(widths) - target_cost))
