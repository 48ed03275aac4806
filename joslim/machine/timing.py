"""How long a network takes on this machine's processor."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from joslim.machine.threads import single_threaded

WARM_UP = 3
"""First passes of a model, which are not counted."""


def latency_ms(model: nn.Module, example: Tensor, *, repeats: int = 30) -> float:
    """Median milliseconds of one forward pass of ``example``, as `latencies_ms` measures it."""
    return latencies_ms([model], example, repeats=repeats)[0]


@torch.no_grad()
def latencies_ms(models: Sequence[nn.Module], example: Tensor, *, repeats: int = 30) -> list[float]:
    """Median milliseconds of one forward pass of each model in eval mode on one CPU thread.

    One thread, so that the number does not depend on what else the process is allowed to use. The
    models take turns, so that whatever else the machine does slows all of them alike.
    """
    times: list[list[float]] = [[] for _ in models]
    with single_threaded():
        for _ in range(repeats + WARM_UP):
            for model, taken in zip(models, times, strict=True):
                model.eval()
                start = time.perf_counter()
                model(example)
                taken.append(time.perf_counter() - start)
    return [1000 * statistics.median(taken[WARM_UP:]) for taken in times]
