"""Work on images ahead of its use, in worker processes."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from joslim.errors import DataError
from joslim.machine.device import num_processors

MOST_WORKERS = 16
"""Per process. Each worker keeps two batches ready, in shared memory."""

Key = TypeVar("Key")
Item = TypeVar("Item")


def prefetched(make: Callable[[Key], Item], keys: Iterable[Key]) -> Iterator[Item]:
    """Yield ``make(key)`` of every key, in order, while worker processes make the next ones.

    PyTorch's default generator is left as it is.

    Args:
        make: Called in the workers; what it returns is pinned in memory if there are GPUs.
        keys: May be endless.

    Raises:
        DataError: If ``make`` does.
    """
    items = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=keys,
        num_workers=num_workers(),
        collate_fn=_as_it_is,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),
        worker_init_fn=_without_pillows_warnings,
    )
    for item in items:
        if isinstance(item, DataError):
            raise item
        yield item


def num_workers() -> int:
    """This process's share of the processors, but at most `MOST_WORKERS`."""
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(MOST_WORKERS, num_processors() // processes))


class _Made(Dataset[Item | DataError], Generic[Key, Item]):
    """Hands errors over as items, as they would be raised again under another name."""

    def __init__(self, make: Callable[[Key], Item]) -> None:
        self._make = make

    def __getitem__(self, key: Key) -> Item | DataError:
        try:
            return self._make(key)
        except DataError as error:
            return error


def _as_it_is(item: Item) -> Item:
    return item


def _without_pillows_warnings(worker: int) -> None:
    """They were told of when the images were checked, with names."""
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
