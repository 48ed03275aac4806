"""Images in tar files, as the WebDataset library writes them: ``NAME.jpg`` beside ``NAME.cls``.

Every shard is walked once, to learn where in it each image lies. From then on the images are read
by place, as those that have a file of their own, so that nothing else has to know of shards. Of
their members only images and labels are read; others, pickles among them, are passed over.
"""

import re
import tarfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from joslim.data.dataset import Dataset
from joslim.data.decoding import ENDINGS
from joslim.data.file_content import check_size, content_of
from joslim.data.file_images import FileImages
from joslim.data.layout import SPLITS, check_splits
from joslim.data.listing import list_files
from joslim.data.names import check_class_names, printable
from joslim.data.remarks import collected
from joslim.data.tar_members import tar_members
from joslim.data.validation import Track, for_each, read_checked, silently
from joslim.errors import DataError

CLASSES = "classes.txt"
"""Names the classes, one a line; the first line is label 0."""

LONGEST_LABEL = 64
"""Bytes, of a label that is read."""

OTHER_FILES = "files that are no shards, passed over"
OTHER_MEMBERS = "members of shards that are neither image nor label, passed over"

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
        lines = content_of(file).decode("utf-8-sig").replace("\r\n", "\n")
    except ValueError as error:
        raise DataError(
            f"{printable(file)} cannot be read: {error}; expected the name of a class in each "
            "line, first that of label 0"
        ) from error
    names = tuple(line.strip(" \t") for line in lines.removesuffix("\n").split("\n"))
    check_class_names(names, file)
    if "" in names:
        raise DataError(f"{file} line {names.index('') + 1} is empty; expected the name of a class")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{file} names '{twice}' more than once; expected each class once")
    if len(names) < 2:
        raise DataError(f"{file} holds {len(names)} names; expected at least 2")
    return names


def read_shards(
    path: Path, channels: int, image_size: int, background: str, track: Track = silently
) -> Dataset:
    """Read ``path/train-*.tar``, and ``test-*.tar`` and ``val-*.tar`` if they are there, by name.

    Every image is decoded once. They are kept in memory if together they take no more than
    `joslim.data.memory.MEMORY_LIMIT`.

    Raises:
        DataError: If shards, or images in them, are missing or damaged, with their names; if an
            image has no label, or a label is none of the classes.
    """
    classes = shard_classes(path)
    shards, passed_over = _shards(path)
    noticed = [(OTHER_FILES, name) for name in passed_over]
    found = {}
    for split, files in shards.items():
        places, others = _walked(files, len(classes), track)
        noticed += [(OTHER_MEMBERS, name) for name in others]
        found[split] = FileImages(
            root=path,
            names=np.array([place.name for place in places]),
            digests=np.empty(0),
            labels=torch.tensor([place.label for place in places], dtype=torch.int64),
            channels=channels,
            image_size=image_size,
            spans=np.array([(place.first, place.length) for place in places], dtype=np.int64),
            background=background,
        )
    images, changes = read_checked(found, track)
    remarks = (*collected(noticed), *changes)
    return Dataset(classes, images["train"], images.get("test"), images.get("val"), remarks)


def _shards(path: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """The shards of each split, and what else is in the folder."""
    names = [entry.name for entry in list_files(path) if entry.name != CLASSES]
    shards: dict[str, list[Path]] = {}
    strangers = []
    for name in names:
        if match := re.fullmatch(r"(train|test|val)-[^/]*\.tar", name):
            shards.setdefault(match[1], []).append(path / name)
        elif re.fullmatch(r"[^./][^/]*\.tar[^/]*", name):
            strangers.append(name)
    if strangers or not shards:
        found = f"holds {printable(', '.join(strangers))}" if strangers else "holds no shards"
        raise DataError(
            f"{path} {found}; expected train-*.tar and, if you like, test-*.tar and val-*.tar, not "
            "compressed"
        )
    check_splits(path, {split: f"{split}-*.tar" for split in shards})
    kept = {shard.name for files in shards.values() for shard in files}
    shards = {split: shards[split] for split in SPLITS if split in shards}
    return shards, [name for name in names if name not in kept]


def _walked(shards: list[Path], num_classes: int, track: Track) -> tuple[list[_Image], list[str]]:
    """The images of the shards, not yet read, and the names of other members."""
    images: list[list[_Image]] = [[]] * len(shards)
    others: list[list[str]] = [[]] * len(shards)

    def read(index: int) -> None:
        images[index], others[index] = _images(shards[index], num_classes)

    for_each(len(shards), read, "shard", track)
    return list(chain.from_iterable(images)), list(chain.from_iterable(others))


def _images(shard: Path, num_classes: int) -> tuple[list[_Image], list[str]]:
    """Of one shard, in its order; and the names of members that are passed over."""
    images: dict[str, tarfile.TarInfo] = {}
    labels: dict[str, int] = {}
    others: list[str] = []
    shown = printable(shard)
    for member, tar in tar_members(shard):
        name = printable(shard / member.name)
        match = _MEMBER.fullmatch(member.name)
        ending = match["ending"].lower() if match else ""
        if not match or not member.isreg() or (ending != "cls" and f".{ending}" not in ENDINGS):
            others += [] if member.isdir() else [f"{shard.name}/{member.name}"]
            continue
        kind, key = labels if ending == "cls" else images, match["key"]
        if key in kind:
            raise DataError(f"{name} is not the first of '{printable(key)}'; expected one")
        if ending == "cls":
            content = tar.extractfile(member)
            label = content.read(LONGEST_LABEL) if content else b""
            labels[key] = _label(name, label, num_classes)
        else:
            check_size(name, member.size)
            images[key] = member
    if not images:
        raise DataError(f"{shown} holds no images; known endings: {', '.join(ENDINGS)}")
    if images.keys() != labels.keys():
        key = min(images.keys() ^ labels.keys())
        there, missing = ("image", "label") if key in images else ("label", "image")
        key = printable(key)
        raise DataError(
            f"{shown} holds the {there} of '{key}', but not its {missing}; expected {key}.cls "
            "beside an image"
        )
    places = [
        _Image(f"{shard.name}/{member.name}", member.offset_data, member.size, labels[key])
        for key, member in images.items()
    ]
    return places, others


def _label(name: str, text: bytes, num_classes: int) -> int:
    digits = text.strip()
    if not re.fullmatch(rb"[0-9]{1,9}", digits) or int(digits) >= num_classes:
        shown = digits[:20].decode(errors="replace")
        raise DataError(
            f"{name} is '{shown}'; expected 0 to {num_classes - 1}, a line of {CLASSES} counted "
            "from 0"
        )
    return int(digits)
