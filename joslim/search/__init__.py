"""Search strategies, all with one ask/tell interface."""

from typing import Any

from joslim.costs import Cost
from joslim.errors import ConfigError
from joslim.search.joslim import Joslim
from joslim.search.proposal import Proposal
from joslim.search.scalarization import Reference, augmented_tchebyshev
from joslim.search.slim import Slim
from joslim.search.strategy import Strategy
from joslim.search.tpe import Tpe
from joslim.search.two_stage import TwoStage
from joslim.widths import WidthSpace

__all__ = [
    "STRATEGIES",
    "Joslim",
    "Proposal",
    "Reference",
    "Slim",
    "Strategy",
    "Tpe",
    "TwoStage",
    "augmented_tchebyshev",
    "create",
]

STRATEGIES: dict[str, type[Strategy]] = {kind.name: kind for kind in (Joslim, Slim, TwoStage, Tpe)}
"""The strategies by name."""


def create(name: str, *, space: WidthSpace, cost: Cost, seed: int, **options: Any) -> Strategy:
    """Make a strategy by name.

    Args:
        cost: The exact objective; target costs are fractions of its full value.
        seed: At least 0; the only source of randomness.
        options: Of the strategy's own, such as ``num_initial``.

    Raises:
        ConfigError: If no strategy has that name.
    """
    if name not in STRATEGIES:
        raise ConfigError(f"strategy is '{name}'; expected one of {', '.join(STRATEGIES)}")
    return STRATEGIES[name](space=space, cost=cost, seed=seed, **options)
