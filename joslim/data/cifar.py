"""CIFAR-10 and CIFAR-100, from the files of their binary version."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torchvision.transforms.v2.functional import resize, rgb_to_grayscale

from joslim.data.dataset import Dataset
from joslim.data.file_content import content_of
from joslim.data.memory_images import ImageSet
from joslim.data.names import check_class_names
from joslim.errors import DataError

SIZE = 32
PIXELS = 3 * SIZE**2


@dataclass(frozen=True)
class _Version:
    """How one of the two is stored: records of labels, the last of which counts, then pixels."""

    archive: str
    train: tuple[str, ...]
    test: str
    names: str
    num_classes: int
    num_labels: int


CIFAR = {
    "cifar10": _Version(
        archive="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test="test_batch.bin",
        names="batches.meta.txt",
        num_classes=10,
        num_labels=1,
    ),
    "cifar100": _Version(
        archive="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        train=("train.bin",),
        test="test.bin",
        names="fine_label_names.txt",
        num_classes=100,
        num_labels=2,
    ),
}


def cifar_classes(source: str, path: Path | None) -> tuple[str, ...]:
    """Class names of CIFAR-10 or CIFAR-100, from their file.

    Raises:
        DataError: If it is missing or does not hold one name per class.
    """
    version = CIFAR[source]
    file = _folder(source, path) / version.names
    names = tuple(_content(file, version).decode(errors="replace").split())
    if len(names) != version.num_classes:
        raise DataError(f"{file} holds {len(names)} names; expected {version.num_classes}")
    check_class_names(names, file)
    return names


def read_cifar(source: str, path: Path | None, channels: int, image_size: int) -> Dataset:
    """Read ``cifar10`` or ``cifar100``.

    Raises:
        DataError: If a file is missing, cut short, or holds unknown labels.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html. The Python version is not read, as its
    files are pickles.
    """
    version, folder = CIFAR[source], _folder(source, path)
    train, test = (
        _read([folder / name for name in names], version, channels, image_size)
        for names in (version.train, (version.test,))
    )
    return Dataset(cifar_classes(source, path), train, test)


def _folder(source: str, path: Path | None) -> Path:
    if path is None:
        raise DataError(
            f"path is missing; source '{source}' needs the folder of {CIFAR[source].archive}, "
            "unpacked"
        )
    return path


def _read(files: list[Path], version: _Version, channels: int, image_size: int) -> ImageSet:
    length = version.num_labels + PIXELS
    parts = []
    for file in files:
        content = np.frombuffer(_content(file, version), dtype=np.uint8)
        if len(content) == 0 or len(content) % length:
            raise DataError(
                f"{file} holds {len(content)} bytes; expected a multiple of {length}, one record "
                "per image"
            )
        records = content.reshape(-1, length)
        highest = int(records[:, version.num_labels - 1].max())
        if highest >= version.num_classes:
            raise DataError(
                f"{file} holds the label {highest}; expected 0 to {version.num_classes - 1}"
            )
        parts.append(records)
    records = np.concatenate(parts)
    labels = torch.from_numpy(records[:, version.num_labels - 1].astype(np.int64))
    images = torch.from_numpy(records[:, version.num_labels :].reshape(-1, 3, SIZE, SIZE))
    if channels == 1:
        images = rgb_to_grayscale(images)
    if image_size != SIZE:
        images = resize(images, [image_size, image_size], antialias=True)
    return ImageSet(images.contiguous(), labels)


def _content(file: Path, version: _Version) -> bytes:
    try:
        return content_of(file)
    except DataError as error:
        raise DataError(
            f"{error}; unpack {version.archive} and give the path of its folder (the binary "
            "version; Python's is a pickle, which is not loaded)"
        ) from error
