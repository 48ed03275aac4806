"""One Joslim proposal: the widths that the surrogate's optimistic bound likes best at a cost.

The paper searches for the trade-off λ by bisection: minimise the scalarisation T, see what the
minimiser costs, adjust λ. Here λ is not searched at all. As λ runs through (0, 1), the minimisers
of T run along the Pareto front of (optimistic loss, cost). The front's point of cost c is known
without λ: it has the lowest optimistic loss on the surface cost = c. Its λ follows by making both
terms of T equal there, which is where minimisers of a maximum lie. Cost is exact and never falls
when a width grows, so any point is brought onto the surface by one shift.

Where the optimistic loss does not fall with cost the front skips c, and no λ leads there. The
lowest loss on the surface is then still what a target of c asks for.

Shape legend: ``n`` points, ``d`` searchable groups.
"""

from collections.abc import Callable, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from joslim.costs import Cost
from joslim.search.cube import WidthCube
from joslim.search.rounding import best_rounding
from joslim.search.scalarization import (
    REFERENCE,
    Reference,
    augmented_tchebyshev,
    tradeoff_weight_through,
)
from joslim.search.surface import minimise, project
from joslim.search.surrogate import Surrogate
from joslim.widths import Widths

TOLERANCE = 0.01
"""Allowed distance from the target, as a fraction of the full network's cost."""

BREACH = 1e2
"""What breaking a limit by its whole size adds to a loss, in standard deviations."""

NUM_STARTS = 16
NUM_ROUNDED = 4
NUM_STEPS = 20


@dataclass(frozen=True)
class Proposal:
    """Widths to try next.

    Attributes:
        target_cost: Fraction of the full cost that was asked for.
        tradeoff_weight: λ of the scalarisation that the widths minimise.
        reference: Reference point of that scalarisation.
    """

    widths: Widths
    target_cost: float
    tradeoff_weight: float
    reference: Reference


class Objectives:
    """What a proposal trades: optimistic loss against cost, at points of the cube.

    Args:
        observed: Points ``X (n, d)`` with a known loss: the surrogate's.
        excess: By how much channel counts ``(n, g)`` break limits, relative to them: ``(n,)``.
    """

    def __init__(
        self,
        cube: WidthCube,
        cost: Cost,
        surrogate: Surrogate,
        observed: Tensor,
        excess: Callable[[Tensor], Tensor],
    ) -> None:
        self.cube = cube
        self.observed = observed
        self._surrogate = surrogate
        self._cost = cost
        self._excess = excess
        costs = self.cost_fraction(observed)
        self._mean, self._std = costs.mean(), costs.std().clamp_min(1e-3)

    def loss(self, X: Tensor) -> Tensor:
        """Optimistic losses ``(n,)``, outweighed by broken limits."""
        return self._surrogate.optimistic(X) + BREACH * self._excess(self.cube.channels(X))

    def cost_fraction(self, X: Tensor) -> Tensor:
        """Costs ``(n,)`` relative to the full network's."""
        return self._cost.fraction(self.cube.channels(X))

    def standardise(self, cost_fraction: Tensor) -> Tensor:
        """Costs in standard deviations of the observed ones from their mean, as losses are."""
        return (cost_fraction - self._mean) / self._std


def propose(
    objectives: Objectives,
    target_cost: float,
    *,
    reach: float = 1.0,
    avoid: Set[Widths],
    generator: torch.Generator,
) -> Proposal:
    """Propose the width configuration of cost ``target_cost`` to train next.

    Args:
        target_cost: Fraction of the full cost, between the smallest network's and 1.
        reach: How far, along each axis of the cube, the descent may lead from observed or uniform
            widths that were evenly brought to this cost, before the search over the grid around
            its ends; from 1 on, and where that finds nothing of this cost, it may lead anywhere.
        avoid: Widths that are taken only if no others lie within the tolerance.
        generator: The only source of randomness.

    Returns:
        Widths within 0.01 of ``target_cost`` if the grid of channel counts has any there;
        otherwise as near as the search comes.

    Source: Joslim, algorithm 2. Deviates: cost is exact, not modelled; λ in closed form.
    """
    cube = objectives.cube
    X, losses = minimise(
        _starts(objectives, target_cost, reach, generator),
        objectives.loss,
        objectives.cost_fraction,
        target_cost,
        NUM_STEPS,
        reach,
    )
    lowest = losses.min().item()
    cheapest = objectives.standardise(objectives.cost_fraction(torch.zeros_like(X[:1]))).item()
    # The paper's reference, moved where it would not lie below everything that can be proposed.
    reference = Reference(min(REFERENCE, lowest - 1), min(REFERENCE, cheapest - 1))
    cost = objectives.standardise(X.new_tensor(target_cost)).item()
    tradeoff_weight = tradeoff_weight_through(lowest, cost, reference)

    def scalarised(points: Tensor) -> Tensor:
        costs = objectives.standardise(objectives.cost_fraction(points))
        return augmented_tchebyshev(objectives.loss(points), costs, tradeoff_weight, reference)

    widths = round_at_cost(
        X[losses.argsort()[:NUM_ROUNDED]],
        cube,
        objectives.cost_fraction,
        target_cost,
        preference=scalarised,
        avoid=avoid,
        generator=generator,
    )
    missed = abs(objectives.cost_fraction(cube.encode([widths])).item() - target_cost) > TOLERANCE
    if missed and reach < 1:
        return propose(objectives, target_cost, avoid=avoid, generator=generator)
    return Proposal(widths, target_cost, tradeoff_weight, reference)


def round_at_cost(
    X: Tensor,
    cube: WidthCube,
    cost_fraction: Callable[[Tensor], Tensor],
    target_cost: float,
    *,
    preference: Callable[[Tensor], Tensor],
    avoid: Set[Widths],
    generator: torch.Generator,
) -> Widths:
    """The allowed widths near the points ``X (n, d)`` that cost the target and are preferred.

    Args:
        preference: From points to ``(n,)``; lower is better. Outweighed by repeating widths of
            ``avoid``, which is outweighed by missing the target.
    """

    def score(levels: Tensor) -> Tensor:
        points = cube.at_levels(levels)
        excess = ((cost_fraction(points) - target_cost).abs() - TOLERANCE).clamp_min(0)
        repeated = torch.tensor([cube.widths(row) in avoid for row in levels.tolist()])
        return preference(points) + 1e3 * repeated + 1e9 * excess

    return cube.widths(best_rounding(X, cube, score, generator=generator).tolist())


def _starts(
    objectives: Objectives, target_cost: float, reach: float, generator: torch.Generator
) -> Tensor:
    """The most promising points of the surface near observations, uniform and random widths."""
    observed = objectives.observed
    nearest = (objectives.cost_fraction(observed) - target_cost).abs().argsort()[:64]
    num_random = 64 if reach >= 1 else 0
    random = torch.rand(num_random, observed.shape[1], generator=generator, dtype=observed.dtype)
    uniform = torch.zeros_like(observed[:1])
    X = torch.cat([observed[nearest].clamp(0, 1), uniform, random])
    X = project(X, objectives.cost_fraction, target_cost)
    return X[objectives.loss(X).argsort()[:NUM_STARTS]]
