"""The joint search: multi-objective Bayesian optimisation with random scalarisations (MOBO-RS)."""

from typing import Any, ClassVar

import torch

from joslim.costs import Cost
from joslim.search.cube import WidthCube
from joslim.search.proposal import Objectives, Proposal, propose
from joslim.search.slim import uniform_at, uniform_between
from joslim.search.strategy import Strategy
from joslim.surrogate import Hyperparameters, Surrogate
from joslim.threads import single_threaded
from joslim.widths import Widths, WidthSpace

GOLDEN_RATIO = 0.6180339887498949

FIRST_FIT = 50
"""L-BFGS iterations of the first fit, from the prior's modes."""

REFIT = 8
"""L-BFGS iterations of a later fit, from the previous hyperparameters."""


class Joslim(Strategy):
    """Draws a target cost uniformly and proposes the widths that look best at that cost.

    Args:
        num_initial: Uniform widths to draw first, spread evenly over all multipliers; the full
            network follows them.

    Source: Joslim (Chin, Morcos, Marculescu, ECML-PKDD 2021), algorithms 1 and 2.
    """

    name: ClassVar[str] = "joslim"
    learns_while_training: ClassVar[bool] = True

    def __init__(self, space: WidthSpace, cost: Cost, seed: int, num_initial: int = 20) -> None:
        super().__init__(space, cost, seed)
        self.num_initial = num_initial
        self._cube = WidthCube(space)
        self._hyperparameters: Hyperparameters | None = None
        self._surrogate: Surrogate | None = None
        self._must_fit = True

    def propose(self, target_cost: float, generator: torch.Generator) -> Proposal:
        """The proposal behind `ask`, with its trade-off; needs two observations."""
        # These matrices are small, so threads mostly wait for each other. Measured at d = 24,
        # n = 200 on 2 busy cores: 0.3 s on one thread, 1 to 8 s on two.
        with single_threaded():
            observed = self._cube.encode(self.history.widths)
            objectives = Objectives(self._cube, self.cost, self._fitted(observed), observed)
            avoid = {*self.history.widths, *self._pending}
            return propose(objectives, target_cost, avoid=avoid, generator=generator)

    def tell(self, widths: Widths, loss: float) -> None:
        super().tell(widths, loss)
        self._surrogate, self._must_fit = None, True

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {
            "hyperparameters": self._hyperparameters,
            "must_fit": self._must_fit,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._hyperparameters = state["hyperparameters"]
        self._surrogate, self._must_fit = None, state["must_fit"]

    def _draw(self, generator: torch.Generator) -> Widths:
        if self.num_asked == self.num_initial:
            return self.space.full
        position = torch.rand((), generator=generator).item()
        if self.num_asked < self.num_initial:
            # Multiples of the golden ratio spread evenly over the range, however many are drawn.
            return uniform_between(self.space, (self.num_asked + 0.5) * GOLDEN_RATIO % 1)
        return self._aim(self.smallest_cost + position * (1 - self.smallest_cost), generator)

    def _aim(self, target_cost: float, generator: torch.Generator) -> Widths:
        if len(self.history) < 2:
            return uniform_at(self.space, self.cost, target_cost)
        return self.propose(target_cost, generator).widths

    def _fitted(self, observed: torch.Tensor) -> Surrogate:
        """The surrogate of the present history; fitted once, however many proposals a round has."""
        if self._surrogate is None:
            losses = self.history.losses.unsqueeze(-1)
            self._surrogate = Surrogate(observed, losses, self._hyperparameters)
            if self._must_fit:
                self._surrogate.fit(FIRST_FIT if self._hyperparameters is None else REFIT)
                self._hyperparameters = self._surrogate.hyperparameters
                self._must_fit = False
        return self._surrogate
