"""Single images, small enough to stand on a page by the dozen."""

import base64
import io
from collections.abc import Sequence

from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

LARGEST = 64
"""Pixels along an edge; what is larger is shrunk."""

_LOSSLESS = 32
"""Pixels up to which a tile is stored as it is, as PNG; else as JPEG, in a fifth of the bytes."""


def tiles(images: Tensor) -> list[Image.Image]:
    """Images as the network takes them, shrunk if they are large.

    Args:
        images: uint8, ``(n, channels, size, size)``, grey or colour.
    """
    size = min(LARGEST, images.shape[-1])
    return [
        to_pil_image(image).resize((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
        if image.shape[-1] > size
        else to_pil_image(image)
        for image in images
    ]


def strip(row: Sequence[Image.Image]) -> Image.Image:
    """Square tiles of one size side by side, without gaps, so that `cut` finds them again."""
    size = row[0].height
    joined = Image.new(row[0].mode, (size * len(row), size))
    for place, tile in enumerate(row):
        joined.paste(tile, (size * place, 0))
    return joined


def cut(joined: Image.Image) -> list[Image.Image]:
    """The tiles of a `strip`."""
    size = joined.height
    return [joined.crop((x, 0, x + size, size)) for x in range(0, joined.width, size)]


def data_uri(tile: Image.Image) -> str:
    """The tile as an address that holds it, for a page that needs no other files."""
    buffer = io.BytesIO()
    if tile.width <= _LOSSLESS:
        tile.save(buffer, format="PNG", optimize=True)
    else:
        tile.save(buffer, format="JPEG", quality=85)
    kind = "png" if tile.width <= _LOSSLESS else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
