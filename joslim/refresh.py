"""Today's losses of past width configurations, without measuring all of them at every round."""

from collections.abc import Sequence
from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from joslim import costs, distributed
from joslim.calibration import batch_statistics
from joslim.search import Strategy
from joslim.slimmable_network import SlimmableNetwork
from joslim.widths import Widths

FEWEST = 4
"""Known width configurations that are measured again whatever it costs."""


@torch.no_grad()
def refresh_history(
    network: SlimmableNetwork,
    strategy: Strategy,
    visited: Sequence[Widths],
    images: Tensor,
    labels: Tensor,
    *,
    max_macs: float = inf,
) -> list[Widths]:
    """Tell ``strategy`` the loss of every ``visited`` width configuration under today's weights.

    New ones are measured, and as many of the others as ``max_macs`` allows, in order. The rest
    follow them: their last losses are corrected by the line that leads from the last to today's
    losses of those that were measured again. Processes that train together share the measuring, and
    all of them tell their own strategy all losses.

    Args:
        visited: The longest unmeasured first; new ones before all others.
        images: One batch of held-out training images in [0, 1]; batch norm uses its statistics.
        labels: ``(batch,)`` class indices.
        max_macs: Multiply-accumulates to spend; by default all are measured.

    Returns:
        ``visited`` in the order for the next call.

    Source: Joslim, section 3.2, which measures all of them every time.
    """
    history = strategy.history
    last = dict(zip(history.widths, history.losses.tolist(), strict=True))
    macs, spent, known = costs.macs(network), 0.0, 0
    chosen: list[Widths] = []
    for widths in visited:
        spent += len(images) * macs(widths)
        if spent > max_macs and widths in last and known >= FEWEST:
            break
        chosen.append(widths)
        known += widths in last
    mine = chosen[distributed.rank() :: distributed.size()]
    with batch_statistics(network):
        losses = [F.cross_entropy(network(images, widths), labels).item() for widths in mine]
    found = distributed.from_all(dict(zip(mine, losses, strict=True)))
    today = {widths: found[widths] for widths in chosen}
    rest = [widths for widths in visited if widths not in today]
    slope, offset = _line([(last[w], loss) for w, loss in today.items() if w in last])
    for widths in visited:
        strategy.tell(widths, today.get(widths, slope * last.get(widths, 0.0) + offset))
    return [*rest, *today]


def _line(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope, never negative, and offset of the least-squares line through ``(last, today)``."""
    if not pairs:
        return 1.0, 0.0
    last, today = np.array(pairs).T
    spread = last.var()
    slope = max(((last - last.mean()) * (today - today.mean())).mean() / spread, 0) if spread else 1
    return float(slope), float(today.mean() - slope * last.mean())
