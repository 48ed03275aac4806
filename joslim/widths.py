"""Channel groups and width configurations: plain integers, no tensors of a network.

Shape legend: ``d`` channel groups, ``n`` width configurations.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from joslim.errors import WidthError

Widths = tuple[int, ...]
"""A width configuration: channel counts, one per channel group of a `WidthSpace`."""


def default_divisor(full: int) -> int:
    """Channel counts of a group with ``full`` channels are searched in steps of this many.

    A power of two, at most 8 (wide layers run fast at multiples of 8), and small enough that the
    group keeps at least 16 steps.
    """
    for divisor in (8, 4, 2):
        if full >= 16 * divisor:
            return divisor
    return 1


@dataclass(frozen=True)
class ChannelGroup:
    """Layers that are forced to share one channel count.

    Where channels only make sense together, as in a grouped convolution, what is counted are units
    of several channels: 32 in a layer of 128 channels, of which each 4 form a convolution group.

    Attributes:
        name: The first layer that produces the group's channels.
        full: Channels in the full network.
        smallest: Fewest channels that the search may use; equals ``full`` in a frozen group.
        divisor: The search uses multiples of this many channels (and ``full`` itself).
        members: Names of the layers whose outputs carry the group's channels.
        frozen: Why the channel count cannot move, naming the node at fault; None if it can.
    """

    name: str
    full: int
    smallest: int
    divisor: int
    members: tuple[str, ...]
    frozen: str | None = None

    def round(self, channels: float) -> int:
        """The allowed channel count nearest to ``channels``."""
        nearest = int(channels / self.divisor + 0.5) * self.divisor
        if self.full - channels < abs(nearest - channels):
            nearest = self.full
        return min(max(nearest, self.smallest), self.full)


@dataclass(frozen=True)
class WidthSpace:
    """All width configurations of one network: the product of its channel groups."""

    groups: tuple[ChannelGroup, ...]

    def __len__(self) -> int:
        return len(self.groups)

    @cached_property
    def full(self) -> Widths:
        """The full network's widths."""
        return tuple(group.full for group in self.groups)

    @cached_property
    def smallest(self) -> Widths:
        """The smallest searched sub-network's widths."""
        return tuple(group.smallest for group in self.groups)

    @cached_property
    def searchable(self) -> tuple[int, ...]:
        """Indices of the groups with more than one allowed channel count."""
        return tuple(i for i, group in enumerate(self.groups) if group.smallest < group.full)

    def uniform(self, width_mult: float) -> Widths:
        """The widths nearest to one ``width_mult`` in (0, 1] for all groups."""
        if not 0 < width_mult <= 1:
            raise WidthError(f"width_mult is {width_mult}; expected 0 < width_mult <= 1")
        return tuple(group.round(width_mult * group.full) for group in self.groups)

    def random(self, generator: torch.Generator) -> Widths:
        """Independent multipliers, each uniform between its group's smallest and 1, rounded."""
        position = torch.rand(len(self), generator=generator).tolist()
        return tuple(
            group.round(group.smallest + p * (group.full - group.smallest))
            for group, p in zip(self.groups, position, strict=True)
        )

    def round(self, multipliers: Sequence[float]) -> Widths:
        """The allowed widths nearest to ``multipliers`` of shape ``(d,)``, each in (0, 1]."""
        if len(multipliers) != len(self):
            raise WidthError(f"got {len(multipliers)} multipliers for {len(self)} channel groups")
        for group, multiplier in zip(self.groups, multipliers, strict=True):
            if not 0 < multiplier <= 1:
                raise WidthError(
                    f"width_mult for group '{group.name}' is {multiplier:.2f}; "
                    "expected 0 < width_mult <= 1"
                )
        return tuple(
            group.round(float(multiplier) * group.full)
            for group, multiplier in zip(self.groups, multipliers, strict=True)
        )

    def multipliers(self, widths: Widths) -> torch.Tensor:
        """Width multipliers of shape ``(d,)``, float64, each in (0, 1]."""
        return torch.tensor(self.check(widths), dtype=torch.float64) / torch.tensor(
            self.full, dtype=torch.float64
        )

    def check(self, widths: Sequence[int]) -> Widths:
        """Return ``widths`` as a tuple if the network can run at them.

        Raises:
            WidthError: If the number of groups differs, or a count is not a whole number in
                1..full (frozen groups: full only).
        """
        if len(widths) != len(self):
            raise WidthError(f"got {len(widths)} widths for {len(self)} channel groups")
        for group, count in zip(self.groups, widths, strict=True):
            if int(count) != count or not 1 <= count <= group.full:
                raise WidthError(
                    f"width of group '{group.name}' is {count}; "
                    f"expected a whole number from 1 to {group.full}"
                )
            if group.frozen is not None and count != group.full:
                raise WidthError(
                    f"width of group '{group.name}' is {count}; it is frozen at {group.full}: "
                    f"{group.frozen}"
                )
        return tuple(int(count) for count in widths)
