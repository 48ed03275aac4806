"""The searchable widths as a unit cube, and the grid of allowed channel counts in it.

Shape legend: ``g`` channel groups, ``d`` searchable ones, ``n`` points.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from joslim.widths import ChannelGroup, Widths, WidthSpace


class WidthCube:
    """Each searchable group from its smallest channel count (0) to its full one (1).

    A ``level`` is the position of an allowed channel count within its group, counted from 0.

    Attributes:
        num_levels: Allowed channel counts per group, shape ``(d,)``.
    """

    def __init__(self, space: WidthSpace) -> None:
        self._space = space
        self._searchable = torch.tensor(space.searchable)
        self._smallest = torch.tensor(space.smallest, dtype=torch.float64)
        self._full = torch.tensor(space.full, dtype=torch.float64)
        self._counts = [_allowed(space.groups[i]) for i in space.searchable]
        self.num_levels = torch.tensor([len(counts) for counts in self._counts])
        # Padding with the last level keeps the rows sorted, which `searchsorted` needs.
        most = max(len(counts) for counts in self._counts)
        padded = [counts + counts[-1:] * (most - len(counts)) for counts in self._counts]
        self._levels = self._normalise(torch.tensor(padded, dtype=torch.float64).T).T.contiguous()

    @property
    def dimension(self) -> int:
        return len(self._searchable)

    def encode(self, widths: Sequence[Widths]) -> Tensor:
        """Points of the cube, shape ``(n, d)``; counts below a group's smallest lie outside."""
        counts = torch.tensor(widths, dtype=torch.float64)[:, self._searchable]
        return self._normalise(counts)

    def channels(self, X: Tensor) -> Tensor:
        """Channel counts ``(n, g)`` at ``X (n, d)``: not rounded, differentiable."""
        span = (self._full - self._smallest)[self._searchable]
        counts = self._smallest.expand(len(X), -1)
        return counts.index_add(1, self._searchable, X * span)

    def at_levels(self, levels: Tensor) -> Tensor:
        """Points ``X (n, d)`` of the cube at grid ``levels (n, d)``."""
        return self._levels.gather(1, levels.T).T

    def widths(self, levels: Sequence[int]) -> Widths:
        """The width configuration at the ``d`` levels."""
        widths = list(self._space.smallest)
        for i, counts, level in zip(self._space.searchable, self._counts, levels, strict=True):
            widths[i] = counts[level]
        return tuple(widths)

    def round(self, X: Tensor, thresholds: Tensor) -> Tensor:
        """Levels ``(n, d)`` beside ``X (n, d)``.

        Args:
            thresholds: Broadcasts with ``X``, in (0, 1]: a point goes up to the next level if it
                lies beyond this share of the way there; 0.5 rounds to the nearest.
        """
        above = torch.searchsorted(self._levels, X.T.contiguous(), right=True).T
        last = self.num_levels - 1
        upper = above.clamp(max=last)
        lower = (above - 1).clamp(min=0).minimum(last)
        low, high = self.at_levels(lower), self.at_levels(upper)
        share = (X - low) / (high - low).clamp_min(1e-12)
        return torch.where(share >= thresholds, upper, lower)

    def _normalise(self, counts: Tensor) -> Tensor:
        low, high = self._smallest[self._searchable], self._full[self._searchable]
        return (counts - low) / (high - low)


def _allowed(group: ChannelGroup) -> list[int]:
    """The channel counts that the search may use, rising: all that `ChannelGroup.round` returns."""
    first = -(-group.smallest // group.divisor) * group.divisor
    return sorted({group.smallest, group.full, *range(first, group.full, group.divisor)})
