"""Decode every image once: to keep it, or to know that it can be decoded when it is needed."""

import hashlib
import itertools
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TextIO

import numpy as np
import torch
from PIL import Image

from joslim.data.appearance import DAMAGED_EXTRAS
from joslim.data.decoding import Picture, square
from joslim.data.file_images import FileImages, Images
from joslim.data.memory import fit_in_memory
from joslim.data.memory_images import ImageSet
from joslim.data.remarks import Remark, collected
from joslim.data.workers import num_workers
from joslim.errors import DataError

DIGITS = 16
"""Of an image's SHA-256 that are kept: a change shows, and a million take little memory."""

MAX_PENDING = 10_000
"""Images that are handed to the threads at a time."""

CHUNK = 50
"""Most images that a thread reads in a row, as handing over each by itself takes as long as a small
one's decoding."""

Result = str | None
"""Why something could not be read; None if it could."""

Track = Callable[[Iterable[Result], str, int], Iterable[Result]]
"""Passes on results, of which a title and the number are given, and may show how many are there."""


def silently(results: Iterable[Result], title: str, total: int) -> Iterable[Result]:
    """Show nothing."""
    return results


def read_checked(
    sets: Mapping[str, FileImages], track: Track = silently
) -> tuple[dict[str, Images], tuple[Remark, ...]]:
    """Read every image of each split, whose digests may be empty.

    Returns:
        The splits in memory if together they take no more than `joslim.data.memory.MEMORY_LIMIT`
        bytes, else as they are, with digests; and what was changed of the images.

    Raises:
        DataError: If images are missing or damaged, with their names.
    """
    first = sets["train"]
    fit = fit_in_memory(sum(map(len, sets.values())), first.channels, first.image_size)
    read = _pixels if fit else _with_digests
    found = {split: read(images, track) for split, images in sets.items()}
    noticed = (
        (what, str(sets[split].names[index]))
        for split, (_, changes) in found.items()
        for index, whats in enumerate(changes)
        for what in whats
    )
    return {split: images for split, (images, _) in found.items()}, collected(noticed)


def for_each(count: int, read: Callable[[int], None], thing: str, track: Track = silently) -> None:
    """Call ``read`` for each of so many things, in parallel.

    Args:
        count: Of the things.
        read: Takes their numbers from 0.
        thing: What they are, in one word, for the error.
        track: Is given the results as they come.

    Raises:
        DataError: Of all whose ``read`` raised one.
    """

    def attempt(index: int) -> Result:
        try:
            read(index)
        except DataError as error:
            return str(error)
        return None

    with _warnings_noticed():
        results = _in_threads(attempt, count)
        broken = [r for r in track(results, f"reading {thing}s", count) if r is not None]
    if broken:
        amount = f"1 {thing}" if len(broken) == 1 else f"{len(broken)} {thing}s"
        more = [f"… and {len(broken) - 20} more"] if len(broken) > 20 else []
        told = [f"{amount} cannot be read; replace or remove what is named here:", *broken[:20]]
        raise DataError("\n".join(told + more))


def _in_threads(attempt: Callable[[int], Result], count: int) -> Iterator[Result]:
    def several(indices: range) -> list[Result]:
        return [attempt(index) for index in indices]

    num_threads = num_workers() + 4
    length = min(CHUNK, 1 + count // (4 * num_threads))
    with ThreadPoolExecutor(num_threads) as pool:
        for start in range(0, count, MAX_PENDING):
            end = min(start + MAX_PENDING, count)
            parts = [range(i, min(i + length, end)) for i in range(start, end, length)]
            yield from itertools.chain.from_iterable(pool.map(several, parts))


Changes = list[tuple[str, ...]]
"""Of each image."""


def _pixels(images: FileImages, track: Track) -> tuple[ImageSet, Changes]:
    size = images.image_size
    pixels = torch.empty(len(images), images.channels, size, size, dtype=torch.uint8)
    changes: Changes = [()] * len(images)

    def read(index: int) -> None:
        image, changes[index] = _decoded(images, index)
        pixels[index] = square(image, size)

    for_each(len(images), read, "image", track)
    return ImageSet(pixels, images.labels), changes


def _with_digests(images: FileImages, track: Track) -> tuple[FileImages, Changes]:
    digests = np.empty(len(images), dtype=f"U{DIGITS}")
    changes: Changes = [()] * len(images)

    def read(index: int) -> None:
        content = images.content(index)
        _, changes[index] = _decoded(images, index, content)
        digests[index] = hashlib.sha256(content).hexdigest()[:DIGITS]

    for_each(len(images), read, "image", track)
    return replace(images, digests=digests), changes


_thread = threading.local()


@contextmanager
def _warnings_noticed() -> Iterator[None]:
    """Pillow's warnings name no file, so that they are kept for `_decoded` to tell of."""
    with warnings.catch_warnings():
        show = warnings.showwarning

        def notice(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if category is UserWarning:
                _thread.is_warned = True
            else:
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = notice
        warnings.filterwarnings("always", category=UserWarning, module=r"PIL\.")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _decoded(images: FileImages, index: int, content: bytes | None = None) -> Picture:
    _thread.is_warned = False
    picture = images.decode(index, content)
    if _thread.is_warned and DAMAGED_EXTRAS not in picture.changes:
        return picture._replace(changes=(*picture.changes, DAMAGED_EXTRAS))
    return picture
