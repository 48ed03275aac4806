"""Training batches: shuffled, augmented, and a pure function of the step."""

import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from joslim.data.augmentation import Augmentation
from joslim.data.file_images import FileImages, Images
from joslim.data.memory_images import unit_range
from joslim.data.workers import prefetched
from joslim.errors import DataError

_ORDER, _BATCH, _EACH = range(3)
"""What random numbers are for: the order of an epoch, a batch, one image."""


class TrainingStream:
    """An endless stream of augmented batches.

    A batch depends on the seed and its step alone, so a resumed run needs no stored position.
    """

    def __init__(
        self,
        data: Images,
        batch_size: int,
        *,
        seed: int,
        augmentation: Augmentation,
        rank: int = 0,
        size: int = 1,
        device: torch.device | None = None,
    ) -> None:
        """Draw batches from ``data``.

        Args:
            data: At least one batch of images. Where they are decoded, or augmented one by one,
                worker processes do so ahead of the step.
            batch_size: Images per step, of all processes together.
            seed: Decides the order and the augmentation.
            augmentation: What is done to the images.
            rank: Which of the processes this is.
            size: Their number; each gets an equal part of the batch.
            device: Where the batches are wanted; by default on the CPU.

        Raises:
            DataError: If there is not one batch, or it cannot be shared evenly.
        """
        if len(data) < batch_size:
            raise DataError(
                f"batch_size is {batch_size}, but only {len(data)} images are left to train on"
            )
        if batch_size % size:
            raise DataError(
                f"batch_size is {batch_size}; expected a multiple of {size}, the number "
                "of processes"
            )
        self.steps_per_epoch = len(data) // batch_size
        self._make = _Batches(data, batch_size, seed, augmentation, slice(rank, None, size))
        self._device = device
        each_is_changed = augmentation.for_one(data.image_size) is not None
        self._is_prefetched = isinstance(data, FileImages) or each_is_changed
        self._ahead: Iterator[tuple[Tensor, Tensor]] = iter(())
        self._next_step: int | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images in [0, 1], ``(batch, channels, height, width)``, and labels of ``step``.

        Steps of prefetched batches are best asked for in order: any other starts the workers anew.

        Raises:
            DataError: If an image file is missing or damaged, with its name.
        """
        images, labels = self._prefetched(step) if self._is_prefetched else self._make(step)
        return unit_range(images, self._device), labels.to(self._device, non_blocking=True)

    def _prefetched(self, step: int) -> tuple[Tensor, Tensor]:
        if step != self._next_step:
            self._ahead = prefetched(self._make, itertools.count(step))
        self._next_step = None
        batch = next(self._ahead)
        self._next_step = step + 1
        return batch


class _Batches:
    """One process's part of the batch of any step, as bytes."""

    def __init__(
        self, data: Images, batch_size: int, seed: int, augmentation: Augmentation, part: slice
    ) -> None:
        self._data = data
        self._batch_size = batch_size
        self._steps_per_epoch = len(data) // batch_size
        self._seed = seed
        self._augmentation = augmentation
        self._transform = augmentation.for_one(data.image_size)
        self._part = part
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, step: int) -> tuple[Tensor, Tensor]:
        epoch, position = divmod(step, self._steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self._data), generator=self._generator(_ORDER, epoch))
        chosen = self._order[position * self._batch_size :][: self._batch_size][self._part]
        images = self._augmentation.for_all(
            self._images(step, chosen), self._part, self._generator(_BATCH, step)
        )
        return images, self._data.labels[chosen]

    def _images(self, step: int, chosen: Tensor) -> Tensor:
        if self._transform is None:
            return self._data.squares(chosen)
        is_cropped = self._augmentation.crop_scale is not None
        images = self._data.originals(chosen) if is_cropped else self._data.squares(chosen)
        changed = []
        with torch.random.fork_rng(devices=[]):
            for place, image in zip(range(self._batch_size)[self._part], images, strict=True):
                torch.default_generator.manual_seed(_number(self._seed, _EACH, step, place))
                changed.append(self._transform(image))
        return torch.stack(changed)

    def _generator(self, use: int, number: int) -> torch.Generator:
        return torch.Generator().manual_seed(_number(self._seed, use, number))


def _number(*parts: int) -> int:
    """Of its own for each sequence of numbers from 0."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))
