"""The training curve, in a file that survives a crash at any moment."""

import json
import warnings
from contextlib import suppress
from pathlib import Path

import pandas as pd

STEPS_PER_POINT = 10
"""A point has the means of so many steps; the last one may have fewer."""


class Curve:
    """The numbers of every step, and their means: the points.

    Of a step that is done again after a crash, the last numbers count. So the curve is that of a
    training without interruption.
    """

    def __init__(self, path: Path, num_steps: int) -> None:
        """Go on with the curve in ``path``, if there is one, of a training of ``num_steps``."""
        self._path = path
        self._num_steps = num_steps
        self._steps: dict[int, dict[str, float]] = {}
        for line in path.read_text().splitlines() if path.exists() else ():
            # A line that a crash tore.
            with suppress(json.JSONDecodeError):
                numbers = json.loads(line)
                self._steps[numbers.pop("step")] = numbers

    def add(self, step: int, numbers: dict[str, float]) -> None:
        """Add a step. On a full disk it warns, and only a crash would lose the step."""
        self._steps[step] = numbers
        try:
            with self._path.open("ab", buffering=0) as file:
                # In front, so that the line is whole even if a crash tore the one before.
                file.write(f"\n{json.dumps({'step': step, **numbers})}".encode())
        except OSError as error:
            warnings.warn(
                f"{self._path} cannot be written: {error}; training goes on without it",
                stacklevel=2,
            )

    def ends(self) -> list[int]:
        """The steps so far at which a point ends."""
        return sorted(filter(self.ends_at, self._steps))

    def ends_at(self, step: int) -> bool:
        """Whether a point ends at ``step``."""
        return step % STEPS_PER_POINT == 0 or step == self._num_steps

    def point(self, end: int) -> dict[str, float]:
        """The means over the steps of the point that ends at step ``end``."""
        first = (end - 1) // STEPS_PER_POINT * STEPS_PER_POINT + 1
        members = [self._steps[step] for step in range(first, end + 1) if step in self._steps]
        return pd.DataFrame(members).mean().to_dict()

    def table(self) -> pd.DataFrame:
        """One row per point, with its ``step``."""
        return pd.DataFrame([{"step": end, **self.point(end)} for end in self.ends()])
