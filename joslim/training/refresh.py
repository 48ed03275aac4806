"""Today's losses of past width configurations, without measuring all of them at every round."""

from collections.abc import Sequence
from itertools import zip_longest
from math import inf

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from joslim import costs, distributed
from joslim.search import Strategy
from joslim.supernet.batch_norm import batch_statistics
from joslim.supernet.network import SlimmableNetwork
from joslim.widths import Widths

FEWEST = 4
"""Width configurations that are measured whatever it costs."""

MAX_BATCH = 512
"""Most images of one forward pass."""

STEADY = 2
"""Imagined width configurations whose losses kept their distances since they were measured."""


@torch.no_grad()
def refresh_history(
    network: SlimmableNetwork,
    strategy: Strategy,
    visited: Sequence[Widths],
    images: Tensor,
    *,
    max_macs: float = inf,
) -> list[Widths]:
    """Tell ``strategy`` the losses of ``visited`` width configurations under today's weights.

    New ones and known ones are measured in turns, as many as ``max_macs`` allows. Of the others,
    the new ones are forgotten: they were trained, which all gain by. The known ones follow those
    measured: their last losses are corrected by the line that leads from the last to today's losses
    of those measured again. Processes that train together share the measuring, and all of them tell
    their own strategy all losses.

    A loss is the cross-entropy to the full network's predictions, not to labels. Which widths of
    one cost are better on other images shows far earlier in it: labels make a loss depend on the
    few images that only chance decides, predictions do not.

    Args:
        visited: The longest unmeasured first.
        images: Held-out training images in [0, 1]. Batch norm uses the statistics of at most 512
            at a time, more of which would not fit a GPU.
        max_macs: Multiply-accumulates to spend, of all processes; by default all are measured. At
            least four width configurations are, whatever it costs.

    Returns:
        Those of ``visited`` that are known now, in the order for the next call.

    Source: Joslim, section 3.2. Deviates: there all are measured every time, by labels.
    """
    if not visited:
        return []
    history = strategy.history
    last = dict(zip(history.widths, history.losses.tolist(), strict=True))
    known = [widths for widths in visited if widths in last]
    new = [widths for widths in visited if widths not in last]
    in_turns = [widths for pair in zip_longest(new, known) for widths in pair if widths is not None]
    macs = costs.macs(network)
    measured = macs(torch.tensor(in_turns, dtype=torch.float64)).cumsum(0)
    spent = len(images) * (distributed.world_size() * macs.full + measured)
    chosen = in_turns[: max(FEWEST, int((spent <= max_macs).sum()))]
    mine = chosen[distributed.rank() :: distributed.world_size()]
    found = distributed.all_gather(dict(zip(mine, _losses(network, mine, images), strict=True)))
    today = {widths: found[widths] for widths in chosen}
    rest = [widths for widths in known if widths not in today]
    pairs = [(last[w], loss) for w, loss in today.items() if w in last]
    slope, offset = _line(pairs, spread=float(np.std([last[w] for w in known] or [0.0])))
    for widths, loss in today.items():
        strategy.tell(widths, loss)
    for widths in rest:
        strategy.tell(widths, slope * last[widths] + offset)
    return [*rest, *today]


def _losses(
    network: SlimmableNetwork, widths_list: Sequence[Widths], images: Tensor
) -> list[float]:
    """Cross-entropy of each to the full network's predictions, mean over the images."""
    losses = [0.0] * len(widths_list)
    with batch_statistics(network):
        for part in images.tensor_split(-(-len(images) // MAX_BATCH)):
            predicted = network(part, network.space.full).softmax(dim=1)
            for i, widths in enumerate(widths_list):
                loss = F.cross_entropy(network(part, widths), predicted).item()
                losses[i] += len(part) / len(images) * loss
    return losses


def _line(pairs: Sequence[tuple[float, float]], spread: float) -> tuple[float, float]:
    """Slope, never negative, and offset of the line through ``(last, today)``.

    Least squares, beside `STEADY` imagined pairs of slope 1 whose last losses have this spread: few
    pairs, or pairs of much the same loss, say little about a slope.
    """
    if not pairs:
        return 1.0, 0.0
    last, today = np.array(pairs).T
    apart, change = last - last.mean(), today - last
    steady = STEADY * spread**2
    fall = (apart @ change) / (apart @ apart + steady) if steady else 0.0
    slope = max(1 + fall, 0.0)
    return float(slope), float(today.mean() - slope * last.mean())
