"""Reading datasets: Fashion-MNIST's files, or a folder of images per class."""

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.datasets import FashionMNIST
from torchvision.datasets.folder import IMG_EXTENSIONS
from torchvision.datasets.mnist import read_image_file, read_label_file

from joslim.data.images import ImageSet
from joslim.errors import DataError

DEBIAN_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
FASHION_MNIST_CLASSES = tuple(FashionMNIST.classes)


@dataclass(frozen=True)
class Dataset:
    """A classification dataset before it is split.

    Attributes:
        classes: Class names; labels index them.
        train: Images to train and validate on.
        test: Images that nothing but the final evaluation sees; None if the source has none.
    """

    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet | None


def read(
    source: str, path: Path | None, *, channels: int, image_size: int, download: Path
) -> Dataset:
    """Read a dataset into memory.

    Args:
        source: ``fashion-mnist`` or ``folder``.
        path: Where the files are. For ``fashion-mnist`` None means: those of Debian's package
            ``dataset-fashion-mnist``, or else torchvision's download.
        channels: 1 for grey images, 3 for colour.
        image_size: Height and width in pixels; images of other sizes are resized.
        download: Folder for downloaded files.

    Raises:
        DataError: If a file is missing or damaged, with its name.
    """
    if source == "folder":
        if path is None:
            raise DataError("data.path is missing; source 'folder' needs the folder of the images")
        return _read_folder(path, channels, image_size)
    return _read_fashion_mnist(path, channels, image_size, download)


def folder_classes(path: Path) -> tuple[str, ...]:
    """Class names of a folder of images per class; ``path/train`` is looked into if it exists."""
    root = path / "train" if (path / "train").is_dir() else path
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; expected a folder of images per class")
    classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    if len(classes) < 2:
        raise DataError(f"{root} holds {len(classes)} class folders; expected at least 2")
    return classes


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
                "dataset-fashion-mnist or set data.path to a folder with its four files"
            ) from error
    train, test = (_read_idx(path, *FASHION_MNIST_FILES[name]) for name in ("train", "test"))
    return Dataset(
        FASHION_MNIST_CLASSES,
        *(
            ImageSet(_resize(images[:, None], channels, image_size), labels)
            for images, labels in (train, test)
        ),
    )


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


@contextmanager
def _plain_file(path: Path, name: str) -> Iterator[Path]:
    """The file itself, or a decompressed copy of ``NAME.gz``."""
    packed = path / f"{name}.gz"
    if (path / name).is_file():
        yield path / name
        return
    if not packed.is_file():
        raise DataError(f"{path} holds neither {name} nor {name}.gz")
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


def _read_folder(path: Path, channels: int, image_size: int) -> Dataset:
    classes = folder_classes(path)
    if not (path / "train").is_dir():
        return Dataset(classes, _read_classes(path, classes, channels, image_size), None)
    train = _read_classes(path / "train", classes, channels, image_size)
    if not (path / "test").is_dir():
        return Dataset(classes, train, None)
    if folder_classes(path / "test") != classes:
        raise DataError(f"{path / 'test'} and {path / 'train'} hold different class folders")
    return Dataset(classes, train, _read_classes(path / "test", classes, channels, image_size))


def _read_classes(root: Path, classes: Sequence[str], channels: int, image_size: int) -> ImageSet:
    files = [
        (file, label)
        for label, name in enumerate(classes)
        for file in sorted((root / name).rglob("*"))
        if file.suffix.lower() in IMG_EXTENSIONS
    ]
    counts = torch.tensor([label for _, label in files]).bincount(minlength=len(classes))
    if (counts == 0).any():
        empty = ", ".join(str(root / classes[i]) for i in (counts == 0).nonzero().flatten())
        raise DataError(f"no images in {empty}; known endings: {', '.join(IMG_EXTENSIONS)}")

    def decode(file: Path) -> np.ndarray | str:
        try:
            with Image.open(file) as image:
                return _square(image, channels, image_size)
        except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
            return f"{file}: {error}"

    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(decode, (file for file, _ in files)))
    broken = [result for result in decoded if isinstance(result, str)]
    if broken:
        more = f"\n… and {len(broken) - 20} more" if len(broken) > 20 else ""
        count = "1 damaged image" if len(broken) == 1 else f"{len(broken)} damaged images"
        raise DataError(f"{count}:\n" + "\n".join(broken[:20]) + more)
    images = torch.from_numpy(np.stack([image for image in decoded if not isinstance(image, str)]))
    return ImageSet(
        images.permute(0, 3, 1, 2).contiguous(), torch.tensor([label for _, label in files])
    )


def _square(image: Image.Image, channels: int, image_size: int) -> np.ndarray:
    """Resize the shorter side, crop the middle: ``(image_size, image_size, channels)``."""
    image = image.convert("L" if channels == 1 else "RGB")
    scale = image_size / min(image.size)
    image = image.resize(
        (max(image_size, round(image.width * scale)), max(image_size, round(image.height * scale))),
        Image.Resampling.BILINEAR,
    )
    left, top = (image.width - image_size) // 2, (image.height - image_size) // 2
    image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image).reshape(image_size, image_size, channels)
