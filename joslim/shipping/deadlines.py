"""Answering in time: the best configuration that is fast enough under the present load."""

import threading
import time
from collections import deque
from collections.abc import Mapping

import numpy as np
import torch

from joslim.errors import BudgetError
from joslim.machine.timing import latencies_ms
from joslim.supernet.slimmable_model import Configuration, SlimmableModel

REMEMBERED = 50
"""Answers by which the present load is told."""

SECONDS = 10
"""Age of an answer that tells nothing of the load any more."""

QUANTILE = 0.95
"""Share of the answers that shall be in time."""


class Deadlines:
    """How long each configuration of a network takes on this machine, alone and at present.

    The load is how much longer than alone, and than one image after the other, the last answers
    took. Threads may use it at the same time.
    """

    def __init__(self, model: SlimmableModel) -> None:
        """Nothing is measured before the first deadline."""
        self._model = model
        self._measured: Mapping[str, float] = {}
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
        alone = {identity: ms * num_images for identity, ms in self._alone().items()}
        fastest = min(self._model.configurations, key=lambda c: alone[c.id])
        if alone[fastest.id] > deadline_ms:
            raise BudgetError(
                f"deadline_ms is {deadline_ms:g}, but the fastest configuration, '{fastest.id}', "
                f"takes {alone[fastest.id]:.3g} ms for {num_images} images"
            )
        load = self._load()
        within = [c for c in self._model.configurations if alone[c.id] * load <= deadline_ms]
        return max(within or [fastest], key=lambda c: c.numbers["val_top1"])

    def note(self, configuration: Configuration, milliseconds: float, num_images: int = 1) -> None:
        """Note what ``configuration`` took for an answer, which tells the load."""
        if alone := self._measured.get(configuration.id):
            with self._lock:
                load = milliseconds / (alone * num_images)
                self._loads.append((time.perf_counter(), load))

    def _alone(self) -> Mapping[str, float]:
        """Median milliseconds of each configuration for one image on one thread."""
        with self._lock:
            if not self._measured:
                model, generator = self._model, torch.Generator().manual_seed(0)
                image = torch.rand(1, *model.input_shape, generator=generator)
                modules = [model.at(configuration.id) for configuration in model.configurations]
                found = latencies_ms(modules, image, repeats=3)
                ids = (configuration.id for configuration in model.configurations)
                self._measured = dict(zip(ids, found, strict=True))
        return self._measured

    def _load(self) -> float:
        """How many times as long as alone the last answers took."""
        recent = time.perf_counter() - SECONDS
        with self._lock:
            loads = [load for end, load in self._loads if end > recent]
        return float(np.quantile(loads, QUANTILE)) if loads else 1.0
