"""Answering in time: the best configuration that is fast enough under the present load."""

import statistics
import threading
import time
from collections import deque

import numpy as np
import torch

from joslim.errors import BudgetError
from joslim.supernet.slimmable_model import Configuration, SlimmableModel

REMEMBERED = 50
"""Answers by which the present load is told."""

SECONDS = 10
"""Age of an answer that tells nothing of the load any more."""

QUANTILE = 0.95
"""Share of the answers that shall be in time."""

WARM_UP, REPEATS = 2, 3
BATCH = 8
"""Images of the batch that tells what more images take."""


class Deadlines:
    """How long each configuration of a network takes on this machine, alone and at present.

    The load is how much longer than alone the last answers took. Threads may use it at the same
    time.
    """

    def __init__(self, model: SlimmableModel) -> None:
        """Nothing is measured before the first deadline."""
        self._model = model
        self._one: dict[str, float] = {}
        self._more = 1.0
        self._loads: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self._lock = threading.Lock()

    def best_within(self, deadline_ms: float, num_images: int = 1) -> Configuration:
        """The configuration with the best ``val_top1`` that is expected to answer in time.

        Under a load in which none is, the fastest.

        Args:
            deadline_ms: Milliseconds for the network alone; how long a request is on its way, waits
                and is read, is not seen here.
            num_images: In the batch.

        Raises:
            BudgetError: If not even the fastest could be in time on an idle machine.
        """
        with self._lock:
            self._measure()
            alone = {c.id: self._alone(c, num_images) for c in self._model.configurations}
            load = self._load()
        fastest = min(self._model.configurations, key=lambda c: alone[c.id])
        if not alone[fastest.id] <= deadline_ms:
            raise BudgetError(
                f"deadline_ms is {deadline_ms:g}, but the fastest configuration, '{fastest.id}', "
                f"takes {alone[fastest.id]:.3g} ms for {num_images} images"
            )
        within = [c for c in self._model.configurations if alone[c.id] * load <= deadline_ms]
        return max(within or [fastest], key=lambda c: c.numbers["val_top1"])

    def note(self, configuration: Configuration, milliseconds: float, num_images: int = 1) -> None:
        """Note what ``configuration`` took for an answer, which tells the load."""
        with self._lock:
            if not self._one or num_images == 0:
                return
            alone = self._alone(configuration, num_images)
            if milliseconds < alone:  # what was measured was not alone
                self._one[configuration.id] *= milliseconds / alone
            self._loads.append((time.perf_counter(), max(1.0, milliseconds / alone)))

    def _alone(self, configuration: Configuration, num_images: int) -> float:
        """Expected milliseconds on an idle machine."""
        return self._one[configuration.id] * (1 + self._more * (num_images - 1))

    def _load(self) -> float:
        """How many times as long as alone the last answers took."""
        recent = time.perf_counter() - SECONDS
        loads = [load for end, load in self._loads if end > recent]
        return float(np.quantile(loads, QUANTILE)) if loads else 1.0

    def _measure(self) -> None:
        """Time every configuration with one image, and the last one, which costs most, with more.

        On as many threads as answers are computed on.
        """
        if self._one:
            return
        ids = [configuration.id for configuration in self._model.configurations]
        self._one = {identity: self._milliseconds(identity, 1) for identity in ids}
        ratio = self._milliseconds(ids[-1], BATCH) / self._one[ids[-1]]
        self._more = max(0.0, (ratio - 1) / (BATCH - 1))

    def _milliseconds(self, identity: str, num_images: int) -> float:
        images = torch.rand(num_images, *self._model.input_shape)
        times = []
        with torch.inference_mode():
            for _ in range(WARM_UP + REPEATS):
                start = time.perf_counter()
                self._model.at(identity)(images)
                times.append(1000 * (time.perf_counter() - start))
        return statistics.median(times[WARM_UP:])
