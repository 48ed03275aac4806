"""The joint search: multi-objective Bayesian optimisation with random scalarisations (MOBO-RS)."""

from typing import Any, ClassVar

import torch

from joslim.machine.threads import single_threaded
from joslim.search.joint import JointSearch
from joslim.search.proposal import Objectives, Proposal, propose
from joslim.search.surrogate import Hyperparameters, Surrogate
from joslim.widths import Widths

FIRST_FIT = 50
"""L-BFGS iterations of the first fit, from the prior's modes."""

REFIT = 8
"""L-BFGS iterations of a later fit, from the previous hyperparameters."""


class Joslim(JointSearch):
    """Proposes the widths whose loss looks lowest at the target cost.

    Source: Joslim (Chin, Morcos, Marculescu, ECML-PKDD 2021), algorithms 1 and 2.
    """

    name: ClassVar[str] = "joslim"
    reach: ClassVar[float] = 0.15
    _hyperparameters: Hyperparameters | None = None
    _surrogate: Surrogate | None = None
    _must_fit = True

    def propose(self, target_cost: float, generator: torch.Generator) -> Proposal:
        """The proposal behind `ask`, with its trade-off; needs two observations."""
        # These matrices are small, so threads mostly wait for each other. Measured at d = 24,
        # n = 200 on 2 busy cores: 0.3 s on one thread, 1 to 8 s on two.
        with single_threaded():
            observed = self._cube.encode(self.history.widths)
            objectives = Objectives(
                self._cube, self.cost, self._fitted(observed), observed, self.excess
            )
            avoid = set(self._pending)
            return propose(
                objectives, target_cost, reach=self.reach, avoid=avoid, generator=generator
            )

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

    def _search(self, target_cost: float, generator: torch.Generator) -> Widths:
        return self.propose(target_cost, generator).widths

    def _cost_at(self, X: torch.Tensor) -> torch.Tensor:
        return self.cost.fraction(self._cube.channels(X))

    def _fitted(self, observed: torch.Tensor) -> Surrogate:
        """The surrogate of the present history; fitted once, however many proposals a round has."""
        if self._surrogate is None:
            losses = self.history.losses.unsqueeze(-1)
            self._surrogate = Surrogate(observed, losses, self._cost_at, self._hyperparameters)
            if self._must_fit:
                self._surrogate.fit(FIRST_FIT if self._hyperparameters is None else REFIT)
                self._hyperparameters = self._surrogate.hyperparameters
                self._must_fit = False
        return self._surrogate
