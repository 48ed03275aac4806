"""The process group of `torch.distributed`, as `torchrun` starts it; one process without it.

Outside of `process_group` there is one process, and everything here does nothing.
"""

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Thread
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from joslim.machine.device import training_device

Key = TypeVar("Key")
Value = TypeVar("Value")


def is_launched() -> bool:
    """Whether `torchrun` has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@contextmanager
def process_group() -> Iterator[None]:
    """Join the processes that `torchrun` has started, by NCCL on GPUs and by gloo on CPUs.

    A process ends when `torchrun` is gone, even if that was killed.
    """
    if not is_launched():
        yield
        return
    Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    if torch.cuda.is_available():
        torch.cuda.set_device(training_device())
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def world_size() -> int:
    """Number of processes in the group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """The number of this process in the group, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def broadcast(value: Value) -> Value:
    """The first process's ``value``, in all of them."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def all_gather(values: dict[Key, Value]) -> dict[Key, Value]:
    """The processes' ``values`` in one dictionary, in all of them."""
    if world_size() == 1:
        return values
    parts: list[dict[Key, Value]] = [{}] * world_size()
    dist.all_gather_object(parts, values)
    return {key: value for part in parts for key, value in part.items()}


def all_reduce_mean(values: Tensor) -> Tensor:
    """The mean over the processes, element by element."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values / world_size()


def data_parallel(network: nn.Module) -> nn.Module:
    """``network``, such that a backward pass gives the gradient of the joint batch."""
    if world_size() == 1:
        return network
    return DistributedDataParallel(network, forward_sync_buffers=False)


def no_sync(network: nn.Module) -> AbstractContextManager[None]:
    """Leave gradients unaveraged in this context, as another backward pass will follow."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
