"""From an image file to pixels: the only place that opens images."""

import threading
from contextlib import nullcontext
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from joslim.data.appearance import DAMAGE, as_seen
from joslim.data.names import printable
from joslim.errors import DataError

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
"""Pillow's names of the formats that are read, and the endings of their files. A file may hold any
of them. Pillow knows others that start programs, as Ghostscript for EPS."""

ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
"""Of files that are taken for images, in lower case."""

MAX_PIXELS = 89_478_485
"""Of an image, its width times its height. Pillow warns of larger ones."""

LARGE = 2**25
"""Pixels of an image that is decoded alone, as many at a time might not fit in memory."""

LONG = 4
"""Times its other side: of a longer image, a square shows only a small part."""

IS_LONG = f"images more than {LONG} times as long as wide, of which the middle is read"

_LARGER = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_alone = threading.Lock()


class Picture(NamedTuple):
    """An image at its own size, grey or RGB, and what was changed to make it so."""

    image: Image.Image
    changes: tuple[str, ...]


def decode(file: Path, channels: int, background: str, content: bytes) -> Picture:
    """The image in a file as a viewer shows it, grey for 1 channel and RGB for 3.

    Args:
        file: Named in errors.
        channels: 1 or 3.
        background: The colour under transparent pixels, as Pillow names colours.
        content: What was read from the file.

    Raises:
        DataError: If the file is damaged, of none of the `FORMATS`, too large, or of values whose
            range is not known, with its name.
    """
    try:
        with Image.open(BytesIO(content), formats=tuple(FORMATS)) as image:
            if (pixels := image.width * image.height) > MAX_PIXELS:
                raise Image.DecompressionBombError
            with _alone if pixels > LARGE else nullcontext():
                seen, changes = as_seen(image, background)
                wanted = "L" if channels == 1 else "RGB"
                if seen.mode != wanted:
                    seen = seen.convert(wanted)
        is_long = max(seen.size) > LONG * min(seen.size)
        return Picture(seen, (*changes, IS_LONG) if is_long else changes)
    except (UnidentifiedImageError, MemoryError, *_LARGER, *DAMAGE) as error:
        raise DataError(f"{printable(file)}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image that can be read; expected {', '.join(FORMATS)}"
    if isinstance(error, _LARGER):
        return f"it is large; expected at most {MAX_PIXELS:,} pixels"
    if isinstance(error, MemoryError):
        return "it is large; decoded, it does not fit into the memory that is left"
    return printable(str(error)) or type(error).__name__


def square(image: Image.Image, image_size: int) -> Tensor:
    """Resize the shorter side to ``image_size`` pixels, then crop the middle.

    Returns:
        uint8, ``(channels, image_size, image_size)``.
    """
    if image.size == (image_size, image_size):
        return to_tensor(image)
    if max(image.size) > LONG * min(image.size):
        image = _middle(image)
    scale = image_size / min(image.size)
    image = image.resize(
        (max(image_size, round(image.width * scale)), max(image_size, round(image.height * scale))),
        Image.Resampling.BILINEAR,
    )
    left, top = (image.width - image_size) // 2, (image.height - image_size) // 2
    return to_tensor(image.crop((left, top, left + image_size, top + image_size)))


def to_tensor(image: Image.Image) -> Tensor:
    """The pixels of a grey or RGB image, uint8 ``(channels, height, width)``."""
    pixels = np.array(image).reshape(image.height, image.width, -1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def _middle(image: Image.Image) -> Image.Image:
    """Of a long image, as resizing all of it might take more memory than there is."""
    longest = LONG * min(image.size)
    width, height = min(image.width, longest), min(image.height, longest)
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
