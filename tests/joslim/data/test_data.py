"""Reading, splitting and batching."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from generated_data import write_fashion_mnist
from PIL import Image

from joslim import data
from joslim.data import Augmentation, Dataset, ImageSet, TrainingStream
from joslim.errors import DataError


def read(path: Path, **changes) -> Dataset:
    options = {"channels": 1, "image_size": 28, "download": path / "none", **changes}
    return data.read("fashion-mnist", path, **options)


def test_fashion_mnist_files_are_read(fashion_mnist: Path):
    dataset = read(fashion_mnist)
    assert dataset.train.images.shape == (600, 1, 28, 28)
    assert dataset.test is not None
    assert dataset.test.labels.bincount().tolist() == [20] * 10
    assert dataset.classes[9] == "Ankle boot"
    assert read(fashion_mnist, channels=3, image_size=32).train.images.shape == (600, 3, 32, 32)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "holds neither train-images-idx3-ubyte nor"),
        (lambda file: file.write_bytes(file.read_bytes()[:-900]), "train-images.*gz is damaged"),
        (lambda file: file.write_bytes(b"<html>"), "train-images.*gz is damaged"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, damage, message: str):
    folder = write_fashion_mnist(tmp_path, train=20, test=10)
    damage(folder / "train-images-idx3-ubyte.gz")
    with pytest.raises(DataError, match=message):
        read(folder)


def test_labels_must_match_images(tmp_path: Path):
    folder = write_fashion_mnist(tmp_path, train=20, test=10)
    (folder / "t10k-labels-idx1-ubyte.gz").replace(folder / "train-labels-idx1-ubyte.gz")
    write_fashion_mnist(tmp_path / "other", train=20, test=10)
    (tmp_path / "other/t10k-labels-idx1-ubyte.gz").replace(folder / "t10k-labels-idx1-ubyte.gz")
    with pytest.raises(DataError, match=r"holds 20 images, but .* 10 labels"):
        read(folder)


def write_folder(root: Path, counts: dict[str, int]) -> Path:
    rng = np.random.default_rng(0)
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    return root


def test_a_folder_of_images_per_class(tmp_path: Path):
    folder = write_folder(tmp_path / "pets", {"cat": 12, "dog": 20})
    dataset = data.read("folder", folder, channels=3, image_size=16, download=tmp_path)
    assert dataset.classes == ("cat", "dog")
    assert dataset.test is None
    assert dataset.train.images.shape == (32, 3, 16, 16)
    splits = data.split(dataset, val_fraction=0.25, test_fraction=0.25, seed=0)
    assert [len(images) for _, images in splits.items()] == [18, 6, 8]


def test_damaged_images_are_listed(tmp_path: Path):
    folder = write_folder(tmp_path / "pets", {"cat": 3, "dog": 3})
    (folder / "cat/1.png").write_bytes(b"junk")
    (folder / "dog/0.png").write_bytes((folder / "dog/0.png").read_bytes()[:300])
    with pytest.raises(DataError, match=r"(?s)2 images cannot be read;.*cat/1.png.*dog/0.png"):
        data.read("folder", folder, channels=3, image_size=16, download=tmp_path)


def test_an_empty_class_is_refused(tmp_path: Path):
    folder = write_folder(tmp_path / "pets", {"cat": 3, "dog": 0})
    with pytest.raises(DataError, match=r"no images in .*dog"):
        data.read("folder", folder, channels=3, image_size=16, download=tmp_path)


def test_splits_are_disjoint_stratified_and_fixed():
    images = torch.arange(200, dtype=torch.uint8).view(-1, 1, 1, 1)
    dataset = Dataset(("a", "b"), ImageSet(images, torch.arange(200) % 4 // 3), None)
    first, again, other = (
        data.split(dataset, val_fraction=0.1, test_fraction=0.2, seed=seed) for seed in (0, 0, 1)
    )
    pixels = [split.images.flatten().tolist() for _, split in first.items()]
    assert sorted(itertools.chain(*pixels)) == list(range(200))
    assert [len(split) for split in pixels] == [144, 16, 40]
    assert [split.labels.bincount().tolist() for _, split in first.items()] == [
        [108, 36],
        [12, 4],
        [30, 10],
    ]
    assert torch.equal(first.val.images, again.val.images)
    assert not torch.equal(first.val.images, other.val.images)


@pytest.mark.parametrize(
    ("fraction", "count", "message"),
    [
        (0.2, 0, "class 'b' has 0 images; a test split of 0.2 needs at least 3 of each class"),
        (0.1, 1, "class 'b' has 1 image; a test split of 0.1 needs at least 6 of each class"),
        (0.1, 5, "class 'b' has 5 images; a test split of 0.1 needs at least 6 of each class"),
        (0.1, 6, "class 'b' has 5 images; a val split of 0.1 needs at least 6 of each class"),
    ],
)
def test_a_class_too_small_to_split_is_named(fraction: float, count: int, message: str):
    labels = torch.tensor([0] * 20 + [1] * count)
    images = ImageSet(torch.zeros(len(labels), 1, 2, 2).byte(), labels)
    with pytest.raises(DataError, match=message):
        data.split(
            Dataset(("a", "b"), images, None), val_fraction=fraction, test_fraction=fraction, seed=0
        )


def stream(**augmentation) -> TrainingStream:
    images = torch.arange(40, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    data = ImageSet(images.contiguous(), torch.arange(40))
    return TrainingStream(data, 8, seed=3, augmentation=Augmentation(**augmentation))


def test_an_epoch_shows_every_image_once():
    batches = stream()
    first = torch.cat([batches.batch(step)[1] for step in range(5)])
    second = torch.cat([batches.batch(step)[1] for step in range(5, 10)])
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(40))
    assert not torch.equal(first, second)


def test_a_batch_depends_on_its_step_alone():
    options = {"crop_padding": 2, "flip": True, "crop_scale": (0.3, 0.9)}
    batches = stream(**options)
    in_order = [batches.batch(step) for step in range(12)]
    images, labels = stream(**options).batch(11)
    assert torch.equal(images, in_order[11][0])
    assert torch.equal(labels, in_order[11][1])


def test_augmentation_shifts_and_mirrors_whole_images():
    pixels = torch.arange(16, dtype=torch.uint8).view(1, 1, 4, 4) + 1
    copies = ImageSet(pixels.expand(512, -1, -1, -1).contiguous(), torch.zeros(512).long())
    drawn = TrainingStream(copies, 256, seed=0, augmentation=Augmentation(1, flip=True))
    batch, _ = drawn.batch(0)
    assert not any(torch.equal(batch, drawn.batch(step)[0]) for step in (1, 2, 3))
    padded = torch.nn.functional.pad(pixels.float() / 255, (1, 1, 1, 1))
    crops = padded.unfold(2, 4, 1).unfold(3, 4, 1).reshape(9, 4, 4)
    allowed = torch.cat([crops, crops.flip(2)])
    found = (batch[:, 0, None] == allowed).flatten(2).all(2)
    assert found.any(1).all()
    assert found.any(0).sum() == 18


def test_images_of_another_type_or_shape_are_refused():
    images, labels = torch.zeros(3, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)
    assert len(ImageSet(images, labels)) == 3
    with pytest.raises(
        DataError, match=r"images is torch.float32 of shape .*; expected torch.uint"
    ):
        ImageSet(images.float(), labels)
    with pytest.raises(DataError, match=r"images is ndarray; expected torch.uint8 of shape"):
        ImageSet(images.numpy(), labels)
    with pytest.raises(DataError, match=r"labels is torch.int32 of shape .*; expected torch.int64"):
        ImageSet(images, labels.int())
    with pytest.raises(DataError, match="there are 3 images, but 2 labels; expected one for each"):
        ImageSet(images, labels[:2])
