"""The one interface of all ways to draw widths: ask for widths, tell their loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from joslim import pareto
from joslim.costs import Cost
from joslim.errors import BudgetError, CheckpointError
from joslim.search.history import History
from joslim.widths import Widths, WidthSpace

Limits = Sequence[tuple[Cost, float]]
"""Costs beside the objective, each with the most that any proposal may cost, in its own unit."""

NARROWINGS = 12
"""Bisections until widths keep to the limits; finer than any channel count."""


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

    def __init__(self, space: WidthSpace, cost: Cost, seed: int, limits: Limits = ()) -> None:
        self.space = space
        self.cost = cost
        self.seed = seed
        self.limits = tuple(limits)
        for limited, most in self.limits:
            if limited.smallest > most:
                raise BudgetError(
                    f"limit of {limited.name} is {most:g}, but the smallest sub-network has "
                    f"{limited.smallest:g}"
                )
        self.history = History()
        self.num_asked = 0
        self._pending: list[Widths] = []

    def ask(self, target_cost: float | None = None) -> Widths:
        """Propose widths to train next, or the best known to this strategy at a cost.

        Those searched for between two calls of `tell` differ, while there are others of that cost.
        All limits hold, whatever that costs: where they forbid a target, the widths cost less.

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
        widths = self._within_limits(widths)
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
        self._pending = []

    @property
    def smallest_cost(self) -> float:
        """The smallest sub-network's cost as a fraction of the full one's."""
        return self.cost.fraction(self.space.smallest)

    @property
    def largest_cost(self) -> float:
        """The largest cost within the limits, by even narrowing; a fraction of the full one."""
        return self.cost.fraction(self._within_limits(self.space.full))

    def target_cost(self, position: float) -> float:
        """A cost between the smallest (``position`` 0) and the largest (1), as a fraction.

        It rises as that of the widths does which grow evenly, so that positions lie closest where
        costs are small and the loss changes fastest.
        """
        ends = torch.tensor([self.space.smallest, self.space.full], dtype=torch.float64)
        evenly = self.cost.fraction(torch.lerp(ends[:1], ends[1:], position)).item()
        share = (evenly - self.smallest_cost) / (1 - self.smallest_cost)
        return self.smallest_cost + share * (self.largest_cost - self.smallest_cost)

    def hypervolume(self, worst_loss: float) -> float:
        """Share of losses to ``worst_loss`` and costs to the full one's that `history` dominates.

        In [0, 1]; larger is better. It shows how a training goes on; `joslim.front` has another
        one, of errors.
        """
        fractions = [self.cost.fraction(widths) for widths in self.history.widths]
        spent = torch.tensor(fractions, dtype=torch.float64)
        return pareto.hypervolume(self.history.losses / worst_loss, spent, (1.0, 1.0))

    def keeps_limits(self, widths: Widths) -> bool:
        """Whether ``widths`` break no limit."""
        return all(limited(widths) <= most for limited, most in self.limits)

    def excess(self, counts: Tensor) -> Tensor:
        """By how much channel counts ``(n, g)`` break the limits, relative to them: ``(n,)``."""
        broken = [(limited(counts) / most - 1).clamp_min(0) for limited, most in self.limits]
        return torch.stack(broken).sum(0) if broken else counts.new_zeros(len(counts))

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

    def _within_limits(self, widths: Widths) -> Widths:
        """The widths, narrowed evenly towards the smallest ones until they keep to the limits."""
        if self.keeps_limits(widths):
            return widths
        low, high = 0.0, 1.0
        for _ in range(NARROWINGS):
            middle = (low + high) / 2
            keeps = self.keeps_limits(self._narrowed(widths, middle))
            low, high = (middle, high) if keeps else (low, middle)
        return self._narrowed(widths, low)

    def _narrowed(self, widths: Widths, share: float) -> Widths:
        ends = zip(self.space.groups, widths, strict=True)
        return tuple(g.round(g.smallest + share * (count - g.smallest)) for g, count in ends)

    def _check(self, target_cost: float) -> None:
        if not self.smallest_cost - 1e-9 <= target_cost <= 1:
            raise BudgetError(
                f"target_cost is {target_cost:.4f} of the full network's {self.cost.name}; "
                f"expected {self.smallest_cost:.4f} (the smallest sub-network) to 1"
            )
