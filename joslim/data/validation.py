"""Decode every image once: to keep it, or to know that it can be decoded when it is needed."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from joslim.data.decoding import decode, square
from joslim.data.file_images import FileImages, Images
from joslim.data.memory import fit_in_memory
from joslim.data.memory_images import ImageSet
from joslim.errors import DataError

DIGITS = 16
"""Of an image's SHA-256 that are kept: a change shows, and a million take little memory."""

MAX_PENDING = 10_000
"""Images that are handed to the threads at a time."""


def read_checked(sets: Sequence[FileImages]) -> list[Images]:
    """Read every image of ``sets``, whose digests may be empty.

    Returns:
        The sets in memory if together they take no more than `joslim.data.memory.MEMORY_LIMIT`
        bytes, else as they are, with digests.

    Raises:
        DataError: If images are missing or damaged, with their names.
    """
    first = sets[0]
    fit = fit_in_memory(sum(map(len, sets)), first.channels, first.image_size)
    return [_pixels(images) if fit else _with_digests(images) for images in sets]


def for_each(count: int, read: Callable[[int], None], thing: str) -> None:
    """Call ``read`` for each of so many things, in parallel.

    Args:
        count: Of the things.
        read: Takes their numbers from 0.
        thing: What they are, in one word, for the error.

    Raises:
        DataError: Of all whose ``read`` raised one.
    """

    def attempt(index: int) -> str | None:
        try:
            read(index)
        except DataError as error:
            return str(error)
        return None

    broken: list[str] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, count, MAX_PENDING):
            results = pool.map(attempt, range(start, min(start + MAX_PENDING, count)))
            broken += [result for result in results if result is not None]
    if broken:
        more = f"\n… and {len(broken) - 20} more" if len(broken) > 20 else ""
        amount = f"1 damaged {thing}" if len(broken) == 1 else f"{len(broken)} damaged {thing}s"
        raise DataError(
            f"{amount}; replace or remove what is named here:\n" + "\n".join(broken[:20]) + more
        )


def _pixels(images: FileImages) -> ImageSet:
    size = images.image_size
    pixels = torch.empty(len(images), images.channels, size, size, dtype=torch.uint8)

    def read(index: int) -> None:
        pixels[index] = square(images.decode(index), size)

    for_each(len(images), read, "image")
    return ImageSet(pixels, images.labels)


def _with_digests(images: FileImages) -> FileImages:
    digests = np.empty(len(images), dtype=f"U{DIGITS}")

    def read(index: int) -> None:
        content = images.content(index)
        decode(images.root / images.names[index], images.channels, io.BytesIO(content))
        digests[index] = hashlib.sha256(content).hexdigest()[:DIGITS]

    for_each(len(images), read, "image")
    return replace(images, digests=digests)
