"""What searches while training have in common: where they begin, and which costs they aim at."""

from abc import abstractmethod
from typing import ClassVar

import torch

from joslim.costs import Cost
from joslim.search.cube import WidthCube
from joslim.search.slim import uniform_at, uniform_between
from joslim.search.strategy import Limits, Strategy
from joslim.widths import Widths, WidthSpace

GOLDEN_RATIO = 0.6180339887498949


class JointSearch(Strategy):
    """Uniform widths first, then the full network, then widths at target costs drawn at random.

    Targets are `target_cost` of uniformly drawn positions, so that small costs come more often.

    Args:
        num_initial: Uniform widths to draw first, spread evenly over all multipliers; the full
            network follows them.

    Source: Joslim (Chin, Morcos, Marculescu, ECML-PKDD 2021), algorithm 1. Deviates: there costs
    are drawn uniformly.
    """

    learns_while_training: ClassVar[bool] = True

    def __init__(
        self,
        space: WidthSpace,
        cost: Cost,
        seed: int,
        num_initial: int = 20,
        limits: Limits = (),
    ) -> None:
        super().__init__(space, cost, seed, limits)
        self.num_initial = num_initial
        self._cube = WidthCube(space)

    def _draw(self, generator: torch.Generator) -> Widths:
        if self.num_asked == self.num_initial:
            return self.space.full
        position = torch.rand((), generator=generator).item()
        if self.num_asked < self.num_initial:
            # Multiples of the golden ratio spread evenly over the range, however many are drawn.
            return uniform_between(self.space, (self.num_asked + 0.5) * GOLDEN_RATIO % 1)
        return self._aim(self.target_cost(position), generator)

    def _aim(self, target_cost: float, generator: torch.Generator) -> Widths:
        if len(self.history) < 2:
            return uniform_at(self.space, self.cost, target_cost)
        return self._search(target_cost, generator)

    @abstractmethod
    def _search(self, target_cost: float, generator: torch.Generator) -> Widths:
        """Widths that cost ``target_cost`` and look best after at least two observations."""
