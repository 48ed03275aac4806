"""From points of the unit cube to allowed channel counts.

Shape legend: ``n`` points, ``d`` searchable groups; levels as in `joslim.search.cube`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from joslim.search.cube import WidthCube

Score = Callable[[Tensor], Tensor]


def best_rounding(
    X: Tensor,
    cube: WidthCube,
    score: Score,
    *,
    generator: torch.Generator,
    num_candidates: int = 256,
    num_neighbours: int = 512,
    max_climbs: int = 6,
) -> Tensor:
    """Levels ``(d,)`` near the points ``X (n, d)`` with the lowest score.

    Nearest and randomised roundings first, then a climb over neighbours: one group moved by one
    level, or two groups moved by one level in opposite directions.

    Args:
        score: From levels ``(m, d)`` to ``(m,)``.
    """
    thresholds = 1 - torch.rand(num_candidates, X.shape[1], generator=generator, dtype=X.dtype)
    thresholds[: len(X)] = 0.5
    points = X.repeat(-(-num_candidates // len(X)), 1)[:num_candidates]
    levels = cube.round(points, thresholds).unique(dim=0)
    scores = score(levels)
    moves = _moves(X.shape[1])
    for _ in range(max_climbs):
        best, lowest = levels[scores.argmin()], scores.min()
        chosen = moves[torch.randperm(len(moves), generator=generator)[:num_neighbours]]
        levels = (best + chosen).clamp(min=0).minimum(cube.num_levels - 1)
        scores = score(levels)
        if scores.min() >= lowest:
            break
    else:
        best = levels[scores.argmin()]
    return best


def _moves(dimension: int) -> Tensor:
    """All moves of one group, or of two groups in opposite directions, by one level."""
    unit = torch.eye(dimension, dtype=torch.int64)
    swaps = (unit.unsqueeze(1) - unit).reshape(-1, dimension)
    return torch.cat([unit, -unit, swaps[swaps.any(dim=1)]])
