"""One number for two objectives: the augmented Tchebyshev scalarisation.

Shape legend: ``n`` points. Both objectives are standardised and minimised.
"""

from dataclasses import dataclass

from torch import Tensor

REFERENCE = -3.0
"""The reference point in standard deviations from the mean. Source: Joslim."""

RHO = 1e-6
"""Weight of the sum, which makes weakly optimal points lose against optimal ones."""


@dataclass(frozen=True)
class Reference:
    """A point below all observations in both objectives."""

    loss: float = REFERENCE
    cost: float = REFERENCE


def augmented_tchebyshev(
    losses: Tensor, costs: Tensor, tradeoff_weight: float, reference: Reference
) -> Tensor:
    """max(a, b) + ρ(a + b), where a = (1 − λ)(loss − loss*) and b = λ(cost − cost*).

    Args:
        losses: Shape ``(n,)``.
        costs: Shape ``(n,)``.
        tradeoff_weight: λ in [0, 1]; 0 looks at the loss only, 1 at the cost only.
        reference: ``(loss*, cost*)``.

    Returns:
        Shape ``(n,)``; lower is better.

    Source: Joslim.
    """
    loss_term = (1 - tradeoff_weight) * (losses - reference.loss)
    cost_term = tradeoff_weight * (costs - reference.cost)
    return loss_term.maximum(cost_term) + RHO * (loss_term + cost_term)


def tradeoff_weight_through(loss: float, cost: float, reference: Reference) -> float:
    """The λ whose scalarisation has its kink at ``(loss, cost)``: where both terms are equal.

    If the point is on the Pareto front it minimises the scalarisation at this λ: whatever is
    below the maximum there is better in both objectives, and nothing is.
    """
    loss_gap, cost_gap = loss - reference.loss, cost - reference.cost
    return loss_gap / (loss_gap + cost_gap)
