"""From an image file to pixels."""

from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from joslim.errors import DataError

DAMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot read."""


def decode(file: Path, channels: int, content: IO[bytes] | None = None) -> Image.Image:
    """The image in ``file``, grey for 1 channel and RGB for 3, at its own size.

    Args:
        file: Named in errors.
        channels: 1 or 3.
        content: What was read from the file, so that it is not read again.

    Raises:
        DataError: If the file is missing or damaged, with its name.
    """
    try:
        with Image.open(content or file) as image:
            return image.convert("L" if channels == 1 else "RGB")
    except UnidentifiedImageError as error:
        raise DataError(f"{file}: not an image that Pillow can read") from error
    except DAMAGE as error:
        raise DataError(f"{file}: {error}") from error


def square(image: Image.Image, image_size: int) -> Tensor:
    """Resize the shorter side to ``image_size`` pixels, then crop the middle.

    Returns:
        uint8, ``(channels, image_size, image_size)``.
    """
    scale = image_size / min(image.size)
    image = image.resize(
        (max(image_size, round(image.width * scale)), max(image_size, round(image.height * scale))),
        Image.Resampling.BILINEAR,
    )
    left, top = (image.width - image_size) // 2, (image.height - image_size) // 2
    return pil_to_tensor(image.crop((left, top, left + image_size, top + image_size)))
