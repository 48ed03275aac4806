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
        self, data: ImageSet, batch_size: int, *, seed: int, crop_padding: int, flip: bool
    ) -> None:
        """Draw batches from ``data``.

        Args:
            data: At least one batch of images.
            batch_size: Images per step.
            seed: Decides the order and the augmentation.
            crop_padding: Images are shifted by up to this many pixels each way.
            flip: Whether half of the images are mirrored.
        """
        if len(data) < batch_size:
            raise DataError(
                f"training.batch_size is {batch_size}, but only {len(data)} images are left to "
                "train on"
            )
        self.data = data
        self.batch_size = batch_size
        self.steps_per_epoch = len(data) // batch_size
        self._seed = seed
        self._crop_padding = crop_padding
        self._flip = flip
        self._epoch, self._order = -1, torch.empty(0)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Images in [0, 1], ``(batch_size, channels, height, width)``, and labels of ``step``."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = torch.randperm(len(self.data), generator=seeded(self._seed, epoch))
        chosen = self._order[position * self.batch_size :][: self.batch_size]
        images, labels = self.data.images[chosen], self.data.labels[chosen]
        generator = seeded(self._seed, -1 - step)
        if self._crop_padding:
            images = _random_shift(images, self._crop_padding, generator)
        if self._flip:
            mirrored = torch.rand(len(images), generator=generator) < 0.5
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return unit_range(images), labels


def seeded(seed: int, stream: int) -> torch.Generator:
    """A CPU generator for one of many independent ``stream`` numbers of a ``seed``."""
    return torch.Generator().manual_seed(hash((seed, stream)) % 2**63)


def _random_shift(images: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    top, left = torch.randint(0, 2 * padding + 1, (2, batch, 1), generator=generator)
    rows = (top + torch.arange(height)).view(batch, 1, height, 1)
    columns = (left + torch.arange(width)).view(batch, 1, 1, width)
    index = torch.arange(batch).view(-1, 1, 1, 1)
    return padded[index, torch.arange(channels).view(1, -1, 1, 1), rows, columns]
