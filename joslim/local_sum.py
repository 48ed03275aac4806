"""Sums over the processes that train together: of few numbers, many times a step."""

import os
import tempfile
import time
from pathlib import Path
from weakref import WeakKeyDictionary

import torch
import torch.distributed as dist
from torch import Tensor

from joslim.errors import ProcessError

CAPACITY = 8192
"""Numbers of each process that are summed at a time."""

PATIENCE_SECONDS = 1800.0
"""Gloo's own limit: the others may be searching, or reading images."""


def sum_(values: Tensor) -> None:
    """Replace ``values`` by their sum over the processes; all get the same bits.

    Processes on the processors of one machine meet in shared memory, where nobody has to be woken
    by the operating system; others by `torch.distributed`.

    Args:
        values: Contiguous, of floating point.

    Raises:
        ProcessError: If the others cannot be waited for any longer.
    """
    group = dist.group.WORLD
    assert group is not None
    if group not in _local_sums:
        on_one_machine = int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == group.size()
        polls = on_one_machine and dist.get_backend(group) == "gloo"
        _local_sums[group] = LocalSum() if polls else None
    local = _local_sums[group]
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
        self._parent = os.getppid()
        numbers = size * (1 + 2 * CAPACITY)
        names = [""]
        if self._rank == 0:
            with tempfile.NamedTemporaryFile(prefix="joslim-", delete=False) as file:
                file.write(torch.zeros(numbers, dtype=torch.float64).numpy().tobytes())
            names[0] = file.name
        dist.broadcast_object_list(names)
        shared = torch.from_file(names[0], shared=True, size=numbers, dtype=torch.float64)
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
        self._wait()
        _fence()
        values.copy_(places.sum(0))

    def _wait(self) -> None:
        give_up = time.monotonic() + PATIENCE_SECONDS
        while self._counts.min() < self._count:
            if os.getppid() != self._parent:
                raise ProcessError("the process that started this training is gone")
            if time.monotonic() > give_up:
                silent = [rank for rank, count in enumerate(self._counts) if count < self._count]
                raise ProcessError(
                    f"processes {silent} of this training have not come so far in "
                    f"{PATIENCE_SECONDS:g} s; start it again, it continues from its last checkpoint"
                )
            os.sched_yield()


def _fence() -> None:
    """Memory written before is seen before memory written after, and likewise for reading.

    Processors other than x86 may reorder both. A pass through Linux's scheduler is a full barrier.
    """
    os.sched_yield()


_local_sums: "WeakKeyDictionary[dist.ProcessGroup, LocalSum | None]" = WeakKeyDictionary()
