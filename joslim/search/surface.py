"""Minimising over the surface of equal cost in the unit cube.

Shape legend: ``X (n, d)`` points of the cube; objectives and costs map them to ``(n,)``.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Objective = Callable[[Tensor], Tensor]

BISECTIONS = 20
"""Leaves a millionth of the cube's edge."""


Corner = Tensor | float
"""Of a box: a point per row of ``X``, or one coordinate for all."""


def project(
    X: Tensor, cost: Objective, target_cost: float, lowest: Corner = 0.0, highest: Corner = 1.0
) -> Tensor:
    """Shift all coordinates of each point alike, clamped to a box, until it costs the target.

    The shift always exists, because cost never falls along it, as long as the target lies between
    the costs of the box's lowest and highest corners; the box is the cube by default.
    """
    lowest, highest = torch.as_tensor(lowest), torch.as_tensor(highest)
    low, high = -X.amax(dim=1, keepdim=True), 1 - X.amin(dim=1, keepdim=True)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        too_cheap = (cost((X + middle).clamp(lowest, highest)) < target_cost).unsqueeze(1)
        low, high = torch.where(too_cheap, middle, low), torch.where(too_cheap, high, middle)
    return (X + (low + high) / 2).clamp(lowest, highest)


def minimise(
    X: Tensor,
    objective: Objective,
    cost: Objective,
    target_cost: float,
    num_steps: int,
    reach: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """Projected gradient descent from every point of the surface at once.

    No coordinate moves farther than ``reach`` from where it started.

    A step follows gain per cost: the objective's gradient divided, per coordinate, by the cost's.
    In that metric the common shift of `project` is the orthogonal projection onto the surface.

    Returns:
        The points, none worse than its start, and their objective values.
    """
    lowest, highest = (X - reach).clamp_min(0), (X + reach).clamp_max(1)
    value, gradient = _value_and_gradient(objective, X)
    step = torch.full((len(X), 1), 0.25, dtype=X.dtype)
    for _ in range(num_steps):
        _, price = _value_and_gradient(cost, X)
        direction = _direction(X, gradient, price, lowest, highest)
        moved = project(X + step * direction, cost, target_cost, lowest, highest)
        new_value, new_gradient = _value_and_gradient(objective, moved)
        better = new_value < value
        value = torch.where(better, new_value, value)
        better = better.unsqueeze(1)
        X = torch.where(better, moved, X)
        gradient = torch.where(better, new_gradient, gradient)
        step = torch.where(better, 1.5 * step, 0.3 * step)
    return X, value


def _direction(
    X: Tensor, gradient: Tensor, price: Tensor, lowest: Tensor, highest: Tensor
) -> Tensor:
    """Descent along the surface, longest entry 1; zero where the box's walls are in the way."""
    price = price.clamp_min(1e-9 * price.amax(dim=1, keepdim=True))
    gain = -gradient / price
    free = torch.ones_like(X)
    for _ in range(2):
        share = free * price
        common = (share * gain).sum(1, keepdim=True) / share.sum(1, keepdim=True).clamp_min(1e-300)
        direction = gain - common
        blocked = ((lowest >= X) & (direction < 0)) | ((highest <= X) & (direction > 0))
        free = (~blocked).to(X.dtype)
    direction = free * direction
    return direction / direction.abs().amax(dim=1, keepdim=True).clamp_min(1e-300)


@torch.enable_grad()
def _value_and_gradient(function: Objective, X: Tensor) -> tuple[Tensor, Tensor]:
    X = X.detach().requires_grad_()
    value = function(X)
    (gradient,) = torch.autograd.grad(value.sum(), X)
    return value.detach(), gradient
