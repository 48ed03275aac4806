"""Train first, search afterwards: the NAS-based slimmable networks (AutoSlim, OFA, BigNAS)."""

from typing import ClassVar

import torch

from joslim.search.joslim import Joslim
from joslim.widths import Widths


class TwoStage(Joslim):
    """Draws independent random multipliers; at a target cost it searches as Joslim does."""

    name: ClassVar[str] = "two-stage"
    reach: ClassVar[float] = 1.0
    search_after_training: ClassVar[bool] = True
    learns_while_training: ClassVar[bool] = False

    def _draw(self, generator: torch.Generator) -> Widths:
        return self.space.random(generator)
