"""The one interface of all ways to draw widths: ask for widths, tell their loss."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch

from joslim.costs import Cost
from joslim.errors import BudgetError, CheckpointError
from joslim.history import History
from joslim.widths import Widths, WidthSpace


class Strategy(ABC):
    """Proposes widths; restarted from its state it proposes the same for the same history.

    Randomness comes from the seed and the number of widths asked so far, so the state holds no
    generator.

    Attributes:
        search_after_training: Whether the widths told while training were drawn without a search,
            so that it has to follow on the frozen weights: ask at target costs, tell each loss.
            Otherwise asks at target costs are candidates for the front as they are.
        learns_while_training: Whether `ask` depends on the losses told while training.
        history: The latest loss of all widths told.
        num_asked: Width configurations proposed so far.
    """

    name: ClassVar[str]
    search_after_training: ClassVar[bool] = False
    learns_while_training: ClassVar[bool] = False

    def __init__(self, space: WidthSpace, cost: Cost, seed: int) -> None:
        self.space = space
        self.cost = cost
        self.seed = seed
        self.history = History()
        self.num_asked = 0
        self._pending: list[Widths] = []

    def ask(self, target_cost: float | None = None) -> Widths:
        """Propose widths to train next, or the best known to this strategy at a cost.

        Args:
            target_cost: Fraction of the full network's cost; None lets the strategy choose.

        Raises:
            BudgetError: If ``target_cost`` is not between the smallest sub-network's and 1.
        """
        words = np.random.SeedSequence((self.seed, self.num_asked)).generate_state(1)
        generator = torch.Generator().manual_seed(int(words[0]))
        if target_cost is None:
            widths = self._draw(generator)
        else:
            self._check(target_cost)
            widths = self._aim(target_cost, generator)
        self.num_asked += 1
        self._pending.append(widths)
        return widths

    def tell(self, widths: Widths, loss: float) -> None:
        """Report the loss of ``widths``, also again for widths whose loss has changed.

        Raises:
            WidthError: If the widths do not fit the space.
            DataError: If the loss is not finite.
        """
        widths = self.space.check(widths)
        self.history.tell(widths, loss)
        self._pending = [other for other in self._pending if other != widths]

    @property
    def smallest_cost(self) -> float:
        """The smallest sub-network's cost as a fraction of the full one's."""
        return self.cost.fraction(self.space.smallest)

    def state_dict(self) -> dict[str, Any]:
        """Everything that determines the next proposals, as JSON values."""
        return {
            "strategy": self.name,
            "seed": self.seed,
            "num_asked": self.num_asked,
            "pending": [list(widths) for widths in self._pending],
            "history": self.history.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a `state_dict`.

        Raises:
            CheckpointError: If the state is another strategy's.
        """
        if state["strategy"] != self.name:
            raise CheckpointError(
                f"search state is of strategy '{state['strategy']}'; expected '{self.name}'"
            )
        self.seed = state["seed"]
        self.num_asked = state["num_asked"]
        self._pending = [tuple(widths) for widths in state["pending"]]
        self.history.load_state_dict(state["history"])

    @abstractmethod
    def _draw(self, generator: torch.Generator) -> Widths:
        """Widths of a cost that the strategy chooses."""

    @abstractmethod
    def _aim(self, target_cost: float, generator: torch.Generator) -> Widths:
        """Widths that cost as near to ``target_cost`` as the strategy can."""

    def _check(self, target_cost: float) -> None:
        if not self.smallest_cost - 1e-9 <= target_cost <= 1:
            raise BudgetError(
                f"target_cost is {target_cost:.4f} of the full network's {self.cost.name}; "
                f"expected {self.smallest_cost:.4f} (the smallest sub-network) to 1"
            )
