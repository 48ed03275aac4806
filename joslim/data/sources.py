"""Reading datasets: Fashion-MNIST's files, CIFAR's, a folder of images per class, or shards."""

import gzip
import itertools
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import FashionMNIST
from torchvision.datasets.mnist import read_image_file, read_label_file

from joslim.colours import is_colour
from joslim.data.cifar import CIFAR, cifar_classes, read_cifar
from joslim.data.dataset import Dataset
from joslim.data.folder import folder_classes, read_folder
from joslim.data.memory_images import ImageSet
from joslim.data.shards import read_shards, shard_classes
from joslim.data.validation import Track, silently
from joslim.errors import DataError

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
FASHION_MNIST_CLASSES = tuple(FashionMNIST.classes)


def read(
    source: str,
    path: Path | None,
    *,
    channels: int,
    image_size: int,
    download: Path,
    background: str = "white",
    track: Track = silently,
) -> Dataset:
    """Read a dataset; images of a large folder, or of large shards, stay in their files.

    Args:
        source: ``fashion-mnist``, ``cifar10``, ``cifar100``, ``folder`` or ``shards``.
        path: Where the files are. For ``fashion-mnist`` None means: those of Debian's package
            ``dataset-fashion-mnist``, or else torchvision's download.
        channels: 1 for grey images, 3 for colour.
        image_size: Height and width in pixels; images of other sizes are resized.
        download: Folder for downloaded files.
        background: The colour that transparent pixels are laid on, by name or as ``#rrggbb``.
        track: Is given the results of reading image after image as they come, to show how far it
            is.

    Raises:
        DataError: If ``background`` is no colour; if a file is missing or damaged, with its name.
    """
    if not is_colour(background):
        raise DataError(f"background is '{background}'; expected a colour, as white or '#ffffff'")
    if source == "folder":
        return read_folder(_given(source, path), channels, image_size, background, track)
    if source == "shards":
        return read_shards(_given(source, path), channels, image_size, background, track)
    if source in CIFAR:
        return read_cifar(source, path, channels, image_size)
    return _read_fashion_mnist(path, channels, image_size, download)


def classes(source: str, path: Path | None) -> tuple[str, ...]:
    """Class names, known without reading an image; arguments as for `read`.

    Raises:
        DataError: If ``path`` does not hold them.
    """
    if source == "folder":
        return folder_classes(_given(source, path))
    if source == "shards":
        return shard_classes(_given(source, path))
    if source in CIFAR:
        return cifar_classes(source, path)
    if path is not None:
        for name in itertools.chain(*FASHION_MNIST_FILES.values()):
            _find(path, name)
    return FASHION_MNIST_CLASSES


def _given(source: str, path: Path | None) -> Path:
    if path is None:
        kept = "shards" if source == "shards" else "images"
        raise DataError(f"path is missing; source '{source}' needs the folder of the {kept}")
    return path


def _read_fashion_mnist(
    path: Path | None, channels: int, image_size: int, download: Path
) -> Dataset:
    if path is None and DEBIAN_FASHION_MNIST.is_dir():
        path = DEBIAN_FASHION_MNIST
    if path is None:
        try:
            path = Path(FashionMNIST(str(download), download=True).raw_folder)
        except (OSError, RuntimeError) as error:
            raise DataError(
                f"Fashion-MNIST cannot be downloaded ({error}); install Debian's package "
                "dataset-fashion-mnist, or give the path of a folder with its four files"
            ) from error
    train, test = (
        ImageSet(_resize(images[:, None], channels, image_size), labels)
        for images, labels in (_read_idx(path, *FASHION_MNIST_FILES[n]) for n in ("train", "test"))
    )
    return Dataset(FASHION_MNIST_CLASSES, train, test)


def _read_idx(path: Path, image_name: str, label_name: str) -> tuple[Tensor, Tensor]:
    with _plain_file(path, image_name) as file:
        images = _read_damageable(read_image_file, file, path / image_name)
    with _plain_file(path, label_name) as file:
        labels = _read_damageable(read_label_file, file, path / label_name)
    if len(images) != len(labels):
        raise DataError(
            f"{path / image_name} holds {len(images)} images, but {path / label_name} "
            f"{len(labels)} labels"
        )
    if len(labels) == 0 or not 0 <= int(labels.min()) <= int(labels.max()) <= 9:
        raise DataError(f"{path / label_name} does not hold labels from 0 to 9")
    return images, labels


def _read_damageable(reader, file: Path, name: Path) -> Tensor:  # type: ignore[no-untyped-def]
    try:
        return reader(str(file))
    except (AssertionError, ValueError, RuntimeError, KeyError) as error:
        raise DataError(f"{name} is damaged: {error or 'not an IDX file'}") from error


def _find(path: Path, name: str) -> Path:
    for file in (path / name, path / f"{name}.gz"):
        if file.is_file():
            return file
    raise DataError(f"{path} holds neither {name} nor {name}.gz")


@contextmanager
def _plain_file(path: Path, name: str) -> Iterator[Path]:
    """The file itself, or a decompressed copy of ``NAME.gz``."""
    packed = _find(path, name)
    if packed == path / name:
        yield packed
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with gzip.open(packed) as source, (Path(folder) / name).open("wb") as target:
                shutil.copyfileobj(source, target)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{packed} is damaged: {error}") from error
        yield Path(folder) / name


def _resize(images: Tensor, channels: int, image_size: int) -> Tensor:
    """Grey images, uint8 ``(n, 1, h, w)``, at the asked size and number of channels."""
    if images.shape[-2:] != (image_size, image_size):
        resized = torch.nn.functional.interpolate(
            images, (image_size, image_size), mode="bilinear", antialias=True
        )
        images = resized
    return images.expand(-1, channels, -1, -1).contiguous()
