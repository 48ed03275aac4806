"""Small generated data in the formats of the real ones."""

import gzip
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 data as a gzipped IDX file, the format of MNIST and Fashion-MNIST."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_fashion_mnist(folder: Path, train: int = 600, test: int = 200) -> Path:
    """Ten classes that a small network can tell apart: a bright patch each, in noise."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", train), ("t10k", test)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = rng.integers(0, 120, (count, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[row * 9 : row * 9 + 9, column * 7 : column * 7 + 7] += 120
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", labels)
    return folder


def write_cifar(folder: Path, num_classes: int, train: int = 200, test: int = 100) -> Path:
    """The binary version of CIFAR-10 or CIFAR-100, with few images: the label is the red corner."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    files = {"train.bin": train, "test.bin": test}
    if num_classes == 10:
        files = {f"data_batch_{i}.bin": train // 5 for i in range(1, 6)} | {"test_batch.bin": test}
    for name, count in files.items():
        labels = (np.arange(count) % num_classes).astype(np.uint8)[:, None]
        images = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        images[:, 0, 0, 0] = labels[:, 0]
        coarse = [] if num_classes == 10 else [labels // 5]
        np.hstack([*coarse, labels, images.reshape(count, -1)]).tofile(folder / name)
    names = "batches.meta.txt" if num_classes == 10 else "fine_label_names.txt"
    (folder / names).write_text("\n".join(f"class_{i}" for i in range(num_classes)) + "\n\n")
    return folder


def write_imagenet(folder: Path, num_classes: int, train: int, test: int) -> Path:
    """A folder per WordNet synset in ``train`` and ``test``, with so many small JPEGs in each."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for label in range(num_classes):
            synset = folder / split / f"n{1440764 + label:08}"
            synset.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(synset / f"{synset.name}_{i}.JPEG")
    return folder
