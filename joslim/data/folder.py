"""A folder of images per class, in memory if they fit, else left in their files."""

import hashlib
import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from joslim.data.dataset import Dataset
from joslim.data.decoding import decode, square
from joslim.data.files import FileImages, Images
from joslim.data.images import ImageSet
from joslim.data.memory import fit_in_memory
from joslim.errors import DataError

DIGITS = 16
"""Of a file's SHA-256 that are kept: a change shows, and a million take little memory."""

TOGETHER = 10_000
"""Files that are handed to the threads at a time."""


def folder_classes(path: Path) -> tuple[str, ...]:
    """Class names of a folder of images per class; ``path/train`` is looked into if it exists."""
    root = path / "train" if (path / "train").is_dir() else path
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of images per class")
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{root} holds {len(classes)} class folders; expected at least 2")
    return classes


def read_folder(path: Path, channels: int, image_size: int) -> Dataset:
    """Read ``path/CLASS/…``, or ``path/train/CLASS/…`` and, if it exists, ``path/test/CLASS/…``.

    Every file is decoded once. The images are kept in memory if together they take no more than
    `joslim.data.memory.MEMORY_LIMIT`.

    Raises:
        DataError: If files are damaged, with their names; if a class has no images.
    """
    classes = folder_classes(path)
    has_train = (path / "train").is_dir()
    roots = [path / "train" if has_train else path]
    if has_train and (path / "test").is_dir():
        roots.append(path / "test")
        if folder_classes(path / "test") != classes:
            raise DataError(f"{path / 'test'} and {path / 'train'} hold different class folders")
    found = [_list(root, classes) for root in roots]
    num_images = sum(len(names) for names, _ in found)
    fit = fit_in_memory(num_images, channels, image_size)
    read = _read_pixels if fit else _read_digests
    train, *rest = (
        read(root, names, labels, channels, image_size)
        for root, (names, labels) in zip(roots, found, strict=True)
    )
    return Dataset(classes, train, rest[0] if rest else None)


def _list(root: Path, classes: Sequence[str]) -> tuple[list[str], Tensor]:
    """Names of all images, relative to ``root``, and their labels."""
    files = [
        (str(file.relative_to(root)), label)
        for label, name in enumerate(classes)
        for file in sorted((root / name).rglob("*"))
        if file.suffix.lower() in IMG_EXTENSIONS
    ]
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    counts = labels.bincount(minlength=len(classes))
    if (counts == 0).any():
        empty = ", ".join(str(root / classes[i]) for i in (counts == 0).nonzero().flatten())
        raise DataError(f"no images in {empty}; known endings: {', '.join(IMG_EXTENSIONS)}")
    return [name for name, _ in files], labels


def _read_pixels(
    root: Path, names: list[str], labels: Tensor, channels: int, image_size: int
) -> Images:
    images = torch.empty(len(names), channels, image_size, image_size, dtype=torch.uint8)

    def read(index: int) -> None:
        images[index] = square(decode(root / names[index], channels), image_size)

    _for_each(len(names), read)
    return ImageSet(images, labels)


def _read_digests(
    root: Path, names: list[str], labels: Tensor, channels: int, image_size: int
) -> Images:
    digests = np.empty(len(names), dtype=f"U{DIGITS}")

    def read(index: int) -> None:
        content = (root / names[index]).read_bytes()
        decode(root / names[index], channels, io.BytesIO(content))
        digests[index] = hashlib.sha256(content).hexdigest()[:DIGITS]

    _for_each(len(names), read)
    return FileImages(root, np.array(names), digests, labels, channels, image_size)


def _for_each(count: int, read: Callable[[int], None]) -> None:
    """``read`` each of so many images, in parallel.

    Raises:
        DataError: Of all that are damaged.
    """

    def attempt(index: int) -> str | None:
        try:
            read(index)
        except DataError as error:
            return str(error)
        return None

    broken: list[str] = []
    with ThreadPoolExecutor() as pool:
        for start in range(0, count, TOGETHER):
            results = pool.map(attempt, range(start, min(start + TOGETHER, count)))
            broken += [result for result in results if result is not None]
    if broken:
        more = f"\n… and {len(broken) - 20} more" if len(broken) > 20 else ""
        amount = "1 damaged image" if len(broken) == 1 else f"{len(broken)} damaged images"
        raise DataError(f"{amount}:\n" + "\n".join(broken[:20]) + more)
