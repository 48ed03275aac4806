"""The Pareto front of error against cost. Both objectives are minimised.

Shape legend: ``n`` points, ``k`` costs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def front_mask(losses: Tensor, costs: Tensor) -> Tensor:
    """Which of the points ``(losses, costs)``, each of shape ``(n,)``, nothing dominates.

    Of equal points the first is kept. A point with a NaN is never on the front and dominates none.

    Returns:
        Boolean tensor of shape ``(n,)``.
    """
    import moocore  # here, as a network is loaded and asked for a budget without it

    points = torch.stack([losses, costs], dim=-1).detach().double()
    mask = ~points.isnan().any(dim=-1)
    mask[mask.clone()] = torch.from_numpy(moocore.is_nondominated(points[mask].numpy()))
    return mask


def hypervolume(losses: Tensor, costs: Tensor, reference: tuple[float, float]) -> float:
    """Area that the points ``(n,)`` dominate below ``reference``; larger is better.

    Args:
        losses: NaN counts as not measured.
        costs: In any unit, the same as the reference's.
        reference: ``(loss, cost)``; points that are not below it in both add nothing.
    """
    import moocore

    points = torch.stack([losses, costs], dim=-1).detach().double()
    points = points[~points.isnan().any(dim=-1)]
    return float(moocore.hypervolume(points.numpy(), ref=reference)) if len(points) else 0.0


def best_under(losses: Tensor, costs: Tensor, limits: Sequence[float]) -> int | None:
    """Index of the lowest loss that keeps to every limit; None if no point does.

    Args:
        losses: Shape ``(n,)``; NaN is never the best. Of equal losses the first wins.
        costs: Shape ``(n, k)``: one column per limit, in the limit's unit.
        limits: ``k`` inclusive upper limits.
    """
    bounds = torch.as_tensor(limits, dtype=torch.float64)
    feasible = (costs.double() <= bounds).all(dim=-1) & ~losses.isnan()
    if not feasible.any():
        return None
    return int(losses.double().masked_fill(~feasible, torch.inf).argmin())
