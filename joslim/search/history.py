"""What has been observed so far: the latest loss of every width configuration."""

import math
from typing import Any

import torch
from torch import Tensor

from joslim.errors import DataError
from joslim.widths import Widths


class History:
    """Width configurations in the order they were first told, each with its latest loss."""

    def __init__(self) -> None:
        self._losses: dict[Widths, float] = {}

    def __len__(self) -> int:
        return len(self._losses)

    def __contains__(self, widths: Widths) -> bool:
        return widths in self._losses

    @property
    def widths(self) -> list[Widths]:
        return list(self._losses)

    @property
    def losses(self) -> Tensor:
        """Latest losses, float64 of shape ``(n,)``, in the order of `widths`."""
        return torch.tensor(list(self._losses.values()), dtype=torch.float64)

    def tell(self, widths: Widths, loss: float) -> None:
        """Record ``loss``; it replaces an earlier loss of the same widths.

        Raises:
            DataError: If ``loss`` is not finite.
        """
        if not math.isfinite(loss):
            raise DataError(f"loss of widths {widths} is {loss}; expected a finite number")
        self._losses[widths] = float(loss)

    def state_dict(self) -> dict[str, Any]:
        """The observations as JSON values."""
        return {
            "widths": [list(widths) for widths in self._losses],
            "losses": list(self._losses.values()),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        observations = zip(state["widths"], state["losses"], strict=True)
        self._losses = {tuple(widths): loss for widths, loss in observations}
