"""A folder of images per class, in memory if they fit, else left in their files."""

import re
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from joslim.data.dataset import Dataset
from joslim.data.decoding import ENDINGS
from joslim.data.file_images import FileImages
from joslim.data.layout import Layout, find_layout
from joslim.data.listing import Entry, Kind, list_files
from joslim.data.names import printable
from joslim.data.remarks import Remark, collected
from joslim.data.validation import Track, read_checked, silently
from joslim.errors import DataError

FOLLOWED = "links to folders, followed"
PASSED_OVER = {
    Kind.HIDDEN: "hidden files or folders, passed over",
    Kind.REPEATED_FOLDER: "links to folders that are read elsewhere, passed over",
    Kind.DEAD_LINK: "links to nothing, passed over",
    Kind.NO_FILE: "pipes, sockets or devices, passed over",
}
OUTSIDE = "files outside of the class folders, passed over"


def folder_classes(path: Path) -> tuple[str, ...]:
    """Class names of a folder of images per class.

    Raises:
        DataError: If it is laid out in another way.
    """
    return find_layout(path).classes


def folder_counts(path: Path) -> dict[str, int]:
    """Images of each class, in all splits together, by the names of their files; none is read.

    Raises:
        DataError: If the folder is laid out in another way.
    """
    layout = find_layout(path)
    images, _ = _sort(path, layout)
    found = Counter(name.partition("/")[0] for names in images.values() for name in names)
    return {name: found[name] for name in layout.classes}


def read_folder(
    path: Path, channels: int, image_size: int, background: str, track: Track = silently
) -> Dataset:
    """Read ``path/CLASS/…``, or ``path/train/CLASS/…`` with ``path/test/CLASS/…``.

    Every file is decoded once. The images are kept in memory if together they take no more than
    `joslim.data.memory.MEMORY_LIMIT`.

    Raises:
        DataError: If files are damaged, with their names; if a class has no images.
    """
    layout = find_layout(path)
    found, noticed = _sort(path, layout)
    sets = {
        split: _images(root, found[split], layout.classes, channels, image_size, background)
        for split, root in layout.splits.items()
    }
    own = [
        Remark(f"images in a folder of the split {split}", len(sets[split]), printable(root.name))
        for split, root in layout.splits.items()
        if root != path
    ]
    images, changes = read_checked(sets, track)
    remarks = (*own, *collected(noticed), *changes)
    return Dataset(layout.classes, images["train"], images.get("test"), images.get("val"), remarks)


def _sort(path: Path, layout: Layout) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Names of images by split, relative to its folder, and what else was noticed, and where."""
    prefixes = {
        split: "" if root == path else f"{root.name}/" for split, root in layout.splits.items()
    }
    classes = set(layout.classes)
    images: dict[str, list[str]] = {split: [] for split in prefixes}
    noticed = []
    for entry in list_files(path):
        split = next((s for s, prefix in prefixes.items() if entry.name.startswith(prefix)), "")
        name = entry.name.removeprefix(prefixes.get(split, ""))
        label, _, inner = name.partition("/")
        is_image = PurePosixPath(name).suffix.lower() in ENDINGS
        if entry.kind is Kind.LINKED_FOLDER:
            noticed.append((FOLLOWED, entry.name))
        elif entry.kind in (Kind.HIDDEN, Kind.REPEATED_FOLDER):
            noticed.append((PASSED_OVER[entry.kind], entry.name))
        elif not split or label not in classes or not inner:
            noticed.append((OUTSIDE, entry.name))
        elif is_image:
            images[split].append(name)
        else:
            noticed.append((_reason(entry), entry.name))
    return images, noticed


def _reason(entry: Entry) -> str:
    """Why something in a class folder, that is not called as an image, is passed over."""
    if entry.kind is not Kind.FILE:
        return PASSED_OVER[entry.kind]
    ending = PurePosixPath(entry.name).suffix.lower()
    kind = f"ending in {ending}" if re.fullmatch(r"\.[a-z0-9]{1,5}", ending) else "of other endings"
    return f"files {kind}, passed over"


def _images(
    root: Path,
    names: list[str],
    classes: tuple[str, ...],
    channels: int,
    image_size: int,
    background: str,
) -> FileImages:
    """Of one split, not yet read."""
    label_of = {name: label for label, name in enumerate(classes)}
    labels = torch.tensor([label_of[name.partition("/")[0]] for name in names], dtype=torch.int64)
    counts = labels.bincount(minlength=len(classes))
    if (counts == 0).any():
        empty = ", ".join(str(root / classes[i]) for i in (counts == 0).nonzero().flatten())
        raise DataError(
            f"no images in {empty}; known endings: {', '.join(ENDINGS)}. A folder that is linked "
            "to from several places is read at the first"
        )
    return FileImages(
        root, np.array(names), np.empty(0), labels, channels, image_size, background=background
    )
