"""Sums over the processes that train together: of few numbers, many times a step."""

import os
import tempfile
from functools import cache
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

CAPACITY = 8192
"""Numbers of each process that are summed at a time."""


def sum_(values: Tensor) -> None:
    """Replace ``values`` by their sum over the processes; all get the same bits.

    Processes on the processors of one machine meet in shared memory, where nobody has to be woken
    by the operating system; others by `torch.distributed`.

    Args:
        values: Contiguous, of floating point.
    """
    local = _local_sum(dist.group.WORLD)
    if local is None:
        dist.all_reduce(values)
    else:
        for part in values.view(-1).split(CAPACITY):
            local.add(part)


class LocalSum:
    """A place in shared memory for every process. Who has written polls until all others have.

    There are two sets of places, used in turns: whoever writes for the next sum but one knows that
    all have read this one, as they have written for the one between.
    """

    def __init__(self) -> None:
        """Made by all processes at the same time."""
        size = dist.get_world_size()
        self._rank = dist.get_rank()
        self._count = 0
        names = [""]
        if self._rank == 0:
            handle, names[0] = tempfile.mkstemp(prefix="joslim-")
            os.close(handle)
        dist.broadcast_object_list(names)
        shared = torch.from_file(
            names[0], shared=True, size=size * (1 + 2 * CAPACITY), dtype=torch.float64
        )
        self._counts = shared[:size].numpy()
        self._places = shared[size:].view(2, size, CAPACITY)
        dist.barrier()
        if self._rank == 0:
            Path(names[0]).unlink()

    def add(self, values: Tensor) -> None:
        """Replace at most `CAPACITY` ``values`` by their sum over the processes."""
        self._count += 1
        places = self._places[self._count % 2, :, : len(values)]
        places[self._rank] = values
        _fence()
        self._counts[self._rank] = self._count
        while self._counts.min() < self._count:
            os.sched_yield()
        _fence()
        values.copy_(places.sum(0))


def _fence() -> None:
    """Memory written before is seen before memory written after, and likewise for reading.

    Processors other than x86 may reorder both. A pass through Linux's scheduler is a full barrier.
    """
    os.sched_yield()


@cache
def _local_sum(group: dist.ProcessGroup) -> LocalSum | None:
    on_one_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == group.size()
    return LocalSum() if on_one_machine and dist.get_backend(group) == "gloo" else None
