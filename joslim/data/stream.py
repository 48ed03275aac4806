"""Training batches: shuffled, augmented, and a pure function of the step."""

import torch
import torch.nn.functional as F
from torch import Tensor

from joslim.data.images import ImageSet, unit_range
from joslim.errors import DataError


class TrainingStream:
    """An endless stream of augmented batches.

    A batch depends on the seed and its step alone, so a resumed run needs no stored position.
    """

    def __init__(
        self,
        data: ImageSet,
        batch_size: int,
        *,
        seed: int,
        crop_padding: int,
        flip: bool,
        rank: int = 0,
        size: int = 1,
    ) -> None:
        """Draw batches from ``data``.

        Args:
            data: At least one batch of images.
            batch_size: Images per step, of all processes together.
            seed: Decides the order and the augmentation.
            crop_padding: Images are shifted by up to this many pixels each way.
            flip: Whether half of the images are mirrored.
            rank: Which of the processes this is.
            size: Their number; each gets an equal part of the batch.

        Raises:
            DataError: If there is not one batch, or it cannot be shared evenly.
        """
        if len(data) < batch_size:
            raise DataError(
                f"training.batch_size is {batch_size}, but only {len(data)} images are left to "
                "train on"
            )
        if batch_size % size:
            raise DataError(
                f"training.batch_size is {batch_size}; expected a multiple of {size}, the number "
                "of processes"
            )
        self.data = data
        self.batch_size = batch_size
        self.steps_per_epoch = len(data) // batch_size
        self._seed = seed
        self._crop_padding = crop_padding
        self._flip = flip
        self._mine = slice(rank, None, size)
        self._epoch, self._order = -1, torch.empty(0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images in [0, 1], ``(batch, channels, height, width)``, and labels of ``step``."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.data), generator=seeded(self._seed, epoch))
        chosen = self._order[position * self.batch_size :][: self.batch_size][self._mine]
        images, labels = self.data.images[chosen], self.data.labels[chosen]
        generator = seeded(self._seed, -1 - step)
        if self._crop_padding:
            highest = 2 * self._crop_padding + 1
            moves = torch.randint(0, highest, (2, self.batch_size, 1), generator=generator)
            images = _shifted(images, self._crop_padding, *moves[:, self._mine])
        if self._flip:
            mirrored = (torch.rand(self.batch_size, generator=generator) < 0.5)[self._mine]
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return unit_range(images), labels


def seeded(seed: int, stream: int) -> torch.Generator:
    """A CPU generator for one of many independent ``stream`` numbers of a ``seed``."""
    return torch.Generator().manual_seed(hash((seed, stream)) % 2**63)


def _shifted(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Each image's window at its own place, ``(batch, 1)`` each, in the padded image."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = (top + torch.arange(height)).view(batch, 1, height, 1)
    columns = (left + torch.arange(width)).view(batch, 1, 1, width)
    index = torch.arange(batch).view(-1, 1, 1, 1)
    return padded[index, torch.arange(channels).view(1, -1, 1, 1), rows, columns]
