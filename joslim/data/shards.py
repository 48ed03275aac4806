"""Images in tar files, as the WebDataset library writes them: ``NAME.jpg`` beside ``NAME.cls``.

Every shard is walked once, to learn where in it each image lies. From then on the images are read
by place, as those that have a file of their own, so that nothing else has to know of shards. Of
their members only images and labels are read; others, pickles among them, are passed over.
"""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets.folder import IMG_EXTENSIONS

from joslim.data.dataset import Dataset
from joslim.data.file_images import FileImages
from joslim.data.validation import for_each, read_checked
from joslim.errors import DataError

CLASSES = "classes.txt"
"""Names the classes, one a line; the first line is label 0."""

_MEMBER = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<ending>[^/]+)")
"""Of WebDataset: a sample's members share all up to the first dot of the last part."""


@dataclass(frozen=True)
class _Image:
    """An image in a shard: its name, ``SHARD/MEMBER``, place in bytes, and label."""

    name: str
    first: int
    length: int
    label: int


def shard_classes(path: Path) -> tuple[str, ...]:
    """Class names, from ``path/classes.txt``.

    Raises:
        DataError: If it is missing, or names fewer than two classes, or one twice.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected a folder of shards and {CLASSES}")
    file = path / CLASSES
    try:
        names = tuple(line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{file} cannot be read: {error}; expected the name of a class in each line, first "
            "that of label 0"
        ) from error
    if "" in names:
        raise DataError(f"{file} line {names.index('') + 1} is empty; expected the name of a class")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file} names '{twice}' more than once; expected each class once")
    if len(names) < 2:
        raise DataError(f"{file} holds {len(names)} names; expected at least 2")
    return names


def read_shards(path: Path, channels: int, image_size: int) -> Dataset:
    """Read ``path/train-*.tar`` and, if there are any, ``path/test-*.tar``, in order of name.

    Every image is decoded once. They are kept in memory if together they take no more than
    `joslim.data.memory.MEMORY_LIMIT`.

    Raises:
        DataError: If shards, or images in them, are missing or damaged, with their names; if an
            image has no label, or a label is none of the classes.
    """
    classes = shard_classes(path)
    shards = sorted(path.glob("*.tar*"))
    train, test = ([s for s in shards if s.name.startswith(kind)] for kind in ("train-", "test-"))
    others = [s.name for s in shards if not re.fullmatch(r"(train|test)-.*\.tar", s.name)]
    if others or not train:
        found = f"holds {', '.join(others)}" if others else "holds no shards"
        raise DataError(
            f"{path} {found}; expected train-*.tar and, if you like, test-*.tar, not compressed"
        )
    found_sets = [
        _index(path, part, len(classes), channels, image_size) for part in (train, test) if part
    ]
    train_images, *rest = read_checked(found_sets)
    return Dataset(classes, train_images, rest[0] if rest else None)


def _index(
    path: Path, shards: list[Path], num_classes: int, channels: int, image_size: int
) -> FileImages:
    """All images of the shards, not yet read."""
    found: list[list[_Image]] = [[]] * len(shards)

    def read(index: int) -> None:
        found[index] = _images(shards[index], num_classes)

    for_each(len(shards), read, "shard")
    images = [image for images in found for image in images]
    return FileImages(
        root=path,
        names=np.array([image.name for image in images]),
        digests=np.empty(0),
        labels=torch.tensor([image.label for image in images], dtype=torch.int64),
        channels=channels,
        image_size=image_size,
        spans=np.array([(image.first, image.length) for image in images], dtype=np.int64),
    )


def _images(shard: Path, num_classes: int) -> list[_Image]:
    """Of one shard, in its order."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    for member, key, ending, label in _members(shard):
        kind = labels if ending == "cls" else images
        if key in kind:
            raise DataError(f"{shard}/{member.name} is not the first of '{key}'; expected one")
        if ending == "cls":
            labels[key] = _label(f"{shard}/{member.name}", label, num_classes)
        else:
            images[key] = member
    if not images:
        raise DataError(f"{shard} holds no images; known endings: {', '.join(IMG_EXTENSIONS)}")
    if images.keys() != labels.keys():
        key = min(images.keys() ^ labels.keys())
        there, missing = ("image", "label") if key in images else ("label", "image")
        raise DataError(
            f"{shard} holds the {there} of '{key}', but not its {missing}; expected {key}.cls "
            "beside an image"
        )
    return [
        _Image(f"{shard.name}/{member.name}", member.offset_data, member.size, labels[key])
        for key, member in images.items()
    ]


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, str, str, bytes]]:
    """Images and labels in a shard, by sample's key and ending; the content of the labels."""
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                match = _MEMBER.fullmatch(member.name)
                if not match or not member.isreg():
                    continue
                key, ending = match["key"], match["ending"].lower()
                if ending == "cls":
                    content = tar.extractfile(member)
                    yield member, key, ending, content.read() if content else b""
                elif f".{ending}" in IMG_EXTENSIONS:
                    yield member, key, ending, b""
            end = tar.offset
        with shard.open("rb") as file:
            file.seek(end)
            block = file.read(tarfile.BLOCKSIZE)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{shard}: {error}") from error
    if block != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{shard}: it is damaged, or cut short, at byte {end}")


def _label(name: str, text: bytes, num_classes: int) -> int:
    digits = text.strip()
    if not re.fullmatch(rb"[0-9]{1,9}", digits) or int(digits) >= num_classes:
        shown = digits[:20].decode(errors="replace")
        raise DataError(
            f"{name} is '{shown}'; expected 0 to {num_classes - 1}, a line of {CLASSES} counted "
            "from 0"
        )
    return int(digits)
