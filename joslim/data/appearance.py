"""Images as a viewer shows them: upright, in 8 bits per colour, on a ground."""

import struct
from typing import Any, cast

import numpy as np
from PIL import ExifTags, Image, ImageOps

from joslim.errors import DataError

TURNED = "images turned upright, as their EXIF data says"
DAMAGED_EXTRAS = "images with damaged data beside the pixels, as EXIF, which is passed over"
SCALED = "images of more than 8 bits per colour, scaled to 8"
FIRST_FRAME = "images of several frames, of which the first is read"
OTHER_COLOURS = "images of other colours than grey and RGB, as CMYK, turned into RGB"

DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, struct.error, LookupError, TypeError,
    ArithmeticError, RuntimeError,
)  # fmt: skip
"""What Pillow raises for files that it cannot read."""


def laid_on(background: str) -> str:
    """What is remarked of transparent images."""
    return f"transparent images, laid on {background}"


def as_seen(image: Image.Image, background: str) -> tuple[Image.Image, tuple[str, ...]]:
    """The first frame of an open image, grey or RGB of 8 bits, and what was changed.

    Of RGB with 16 bits per colour, Pillow keeps the upper 8.

    Raises:
        DataError: If it holds numbers whose range is not known.
    """
    changes = []
    if getattr(image, "is_animated", False):
        changes.append(FIRST_FRAME)
    stored = " ".join(str(tile[3]) for tile in getattr(image, "tile", ()))
    if image.mode[0] in "IF" or ";16" in stored:
        changes.append(SCALED)
    orientation = _orientation(image)
    image.load()
    if orientation is None:
        changes.append(DAMAGED_EXTRAS)
    elif orientation in range(2, 9):
        changes.append(TURNED)
        image = ImageOps.exif_transpose(image)
    if "transparency" in image.info:
        image.info["transparency"] = _as_decoded(image.info["transparency"], image.mode, stored)
    if image.mode[0] in "IF":
        image = _in_8_bits(image)
    if image.has_transparency_data:
        layer = image if image.mode == "RGBA" else image.convert("RGBA")
        if cast(tuple[tuple[int, int], ...], layer.getextrema())[3][0] < 255:
            changes.append(laid_on(background))
        image = Image.new("RGB", layer.size, background)
        image.paste(layer, mask=layer)
    elif image.mode not in ("1", "L", "P", "RGB"):
        changes.append(OTHER_COLOURS)
        image = image.convert("RGB")
    return image, tuple(changes)


def _orientation(image: Image.Image) -> int | None:
    """As EXIF numbers it; None if there is such data, but damaged."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except (UserWarning, *DAMAGE):  # the first where warnings are errors
        return None


def _as_decoded(key: Any, mode: str, stored: str) -> Any:
    """PNG's transparent colour is given in the bits of the file; Pillow scales pixels only."""
    if mode == "1":
        return 255 * bool(key)
    if mode == "L" and isinstance(key, int):
        return key * {"L;2": 85, "L;4": 17}.get(stored, 1)
    if mode == "RGB" and ";16" in stored:
        return tuple(value >> 8 for value in key)
    return key


def _in_8_bits(image: Image.Image) -> Image.Image:
    """Numbers as grey values; one that stands for transparency becomes alpha."""
    values = np.asarray(image)
    full = 1 if image.mode == "F" else 65535
    least, most = values.min(), values.max()
    if not 0 <= least <= most <= full:
        raise DataError(
            f"its values go from {least:g} to {most:g}; expected 0 to {full}, or 8 bits"
        )
    scaled = values.astype(np.float32)
    scaled *= 255 / full
    grey = Image.fromarray(np.rint(scaled, out=scaled).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(
            Image.fromarray((values != image.info["transparency"]).astype(np.uint8) * 255)
        )
    return grey
