"""A folder of images per class, in memory if they fit, else left in their files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from joslim.data.dataset import Dataset
from joslim.data.file_images import FileImages
from joslim.data.validation import read_checked
from joslim.errors import DataError


def folder_classes(path: Path) -> tuple[str, ...]:
    """Class names of a folder of images per class; ``path/train`` is looked into if it exists."""
    root = path / "train" if (path / "train").is_dir() else path
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of images per class")
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{root} holds class folders: {len(classes)}; expected at least 2")
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
    found = [_list(root, classes, channels, image_size) for root in roots]
    train, *rest = read_checked(found)
    return Dataset(classes, train, rest[0] if rest else None)


def _list(root: Path, classes: Sequence[str], channels: int, image_size: int) -> FileImages:
    """All images under ``root``, not yet read."""
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
    names = np.array([name for name, _ in files])
    return FileImages(root, names, np.empty(0), labels, channels, image_size)
