"""Random changes to training images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms import v2

from joslim.errors import DataError


@dataclass(frozen=True)
class Augmentation:
    """Random changes to training images; by default none.

    Attributes:
        crop_padding: Images are shifted by up to this many pixels each way.
        flip: Whether half of the images are mirrored.
        crop_scale: Least and most area of a random crop, of aspect ratio 3:4 to 4:3, as fractions
            of the image; it is resized to the square. None: no such crop.
        color_jitter: Most relative change of brightness, contrast and saturation.
        lighting: Standard deviation of `Lighting`.
    """

    crop_padding: int = 0
    flip: bool = False
    crop_scale: tuple[float, float] | None = None
    color_jitter: float = 0.0
    lighting: float = 0.0

    def for_one(self, image_size: int) -> v2.Transform | None:
        """The augmentation of single images: crop, jitter, lighting; None if there is none.

        It takes uint8 ``(channels, height, width)``, cropped to ``image_size`` pixels if there is a
        crop, and draws from PyTorch's default generator.
        """
        steps: list[nn.Module] = []
        if self.crop_scale is not None:
            steps.append(v2.RandomResizedCrop(image_size, scale=self.crop_scale))
        if self.color_jitter:
            steps.append(v2.ColorJitter(*(self.color_jitter,) * 3))
        if self.lighting:
            steps.append(Lighting(self.lighting))
        return v2.Compose(steps) if steps else None

    def for_all(self, images: Tensor, part: slice, generator: torch.Generator) -> Tensor:
        """The augmentation of a whole batch: shift and mirror.

        Args:
            images: uint8, ``(n, channels, height, width)``.
            part: Their places in the joint batch of all processes.
            generator: For the draws of the joint batch, so that each place has its own.
        """
        batch = part.step * len(images)
        if self.crop_padding:
            highest = 2 * self.crop_padding + 1
            moves = torch.randint(0, highest, (2, batch, 1), generator=generator)
            images = _shifted(images, self.crop_padding, *moves[:, part])
        if self.flip:
            mirrored = (torch.rand(batch, generator=generator) < 0.5)[part]
            images = torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
        return images


class Lighting(nn.Module):
    """Add one colour to an image, drawn along the principal components of ImageNet's colours.

    Source: Krizhevsky et al., *ImageNet Classification with Deep CNNs* (NIPS 2012), section 4.1:
    ``V (α * λ)`` with ``α ~ N(0, std²)`` for each component. The numbers are those in wide use, of
    pixels in [0, 1].
    """

    components = torch.tensor(
        [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
    )
    """V: red, green and blue (rows) of each component (columns)."""
    scales = torch.tensor([0.2175, 0.0188, 0.0045])
    """λ."""

    def __init__(self, std: float) -> None:
        """Draw with standard deviation ``std``, from PyTorch's default generator."""
        super().__init__()
        self.std = std

    def offset(self) -> Tensor:
        """Draw a colour to add to pixels in [0, 1], ``(3,)``."""
        return self.components @ (self.scales * self.std * torch.randn(3))

    def forward(self, image: Tensor) -> Tensor:
        """Change a uint8 image, ``(3, height, width)``.

        Raises:
            DataError: If it has not 3 channels.
        """
        if len(image) != 3:
            raise DataError(
                f"lighting is {self.std:g}, but images have {len(image)} channel; "
                "expected 0 or images with 3 channels"
            )
        return (image + 255 * self.offset().view(3, 1, 1)).round_().clamp_(0, 255).byte()


def _shifted(images: Tensor, padding: int, top: Tensor, left: Tensor) -> Tensor:
    """Each image's window at its own place, ``(batch, 1)`` each, in the padded image."""
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    rows = (top + torch.arange(height)).view(batch, 1, height, 1)
    columns = (left + torch.arange(width)).view(batch, 1, 1, width)
    index = torch.arange(batch).view(-1, 1, 1, 1)
    return padded[index, torch.arange(channels).view(1, -1, 1, 1), rows, columns]
