"""Images that stay in their files: as if they were in memory, however they are read."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor

from joslim import data
from joslim.data import Augmentation, FileImages, Images, ImageSet, TrainingStream, memory, workers
from joslim.data.workers import num_workers
from joslim.errors import DataError

STRONG = Augmentation(
    crop_padding=1, flip=True, crop_scale=(0.25, 1.0), color_jitter=0.4, lighting=0.5
)
Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """JPEG and PNG files of several sizes and modes."""
    root = tmp_path_factory.mktemp("pets")
    rng = np.random.default_rng(0)
    for name, split in itertools.product(("cat", "dog"), ("train", "test")):
        (root / split / name).mkdir(parents=True)
        for i in range(12 if split == "train" else 3):
            size = (20 + i, 31, 3) if i % 3 else (31, 20 + i)
            pixels = rng.integers(0, 256, size, dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    return root


def read(pets: Path, channels: int = 3) -> data.Dataset:
    return data.read("folder", pets, channels=channels, image_size=16, download=pets)


def read_files(pets: Path, channels: int = 3, limit: int = 0) -> data.Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MEMORY_LIMIT", limit)
        return read(pets, channels)


def batches(images: Images, steps: range, augmentation: Augmentation, **options) -> list[Batch]:
    stream = TrainingStream(images, 8, seed=5, augmentation=augmentation, **options)
    return [stream.batch(step) for step in steps]


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_files_hold_the_same_images_as_memory(pets: Path, channels: int):
    decoded, files = read(pets, channels), read_files(pets, channels)
    for held, left in ((decoded.train, files.train), (decoded.test, files.test)):
        assert isinstance(held, ImageSet)
        assert isinstance(left, FileImages)
        assert len(left) == len(held)
        assert torch.equal(left.in_memory().images, held.images)
        assert torch.equal(left.in_memory().labels, held.labels)
        assert_equal(list(left.batches(5)), list(held.batches(5)))
    assert decoded.classes == files.classes


def test_the_limit_counts_decoded_bytes_of_all_images(pets: Path):
    size = 30 * 3 * 16 * 16
    assert isinstance(read_files(pets, limit=size).train, ImageSet)
    left = read_files(pets, limit=size - 1).train
    assert isinstance(left, FileImages)
    assert isinstance(left.kept(), ImageSet)


def test_splits_and_subsets_are_the_same(pets: Path):
    splits = [
        data.split(dataset, val_fraction=0.25, test_fraction=0.1, seed=2)
        for dataset in (read(pets), read_files(pets))
    ]
    for (_, held), (_, files) in zip(*(s.items() for s in splits), strict=True):
        assert torch.equal(files.in_memory().images, held.images)
        chosen = files.labels == 1
        assert torch.equal(files.subset(chosen).in_memory().images, held.images[chosen])


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation(crop_padding=2, flip=True)])
def test_training_draws_the_same_batches_from_files(pets: Path, augmentation: Augmentation):
    held, files = read(pets).train, read_files(pets).train
    steps = range(7)
    assert_equal(batches(files, steps, augmentation), batches(held, steps, augmentation))


@pytest.mark.parametrize("make", [read, read_files])
def test_a_stream_started_later_goes_on_alike(pets: Path, make):
    train = make(pets).train
    through = batches(train, range(8), STRONG)
    assert_equal(batches(train, range(5, 8), STRONG), through[5:])
    assert_equal(batches(train, [6, 2, 3], STRONG), [through[i] for i in (6, 2, 3)])
    assert not torch.equal(through[2][0], through[5][0])


@pytest.mark.parametrize("make", [read, read_files])
def test_parts_of_two_processes_make_the_joint_batch(pets: Path, make):
    train = make(pets).train
    joint = batches(train, range(2), STRONG)
    for rank in range(2):
        part = batches(train, range(2), STRONG, rank=rank, size=2)
        assert_equal(part, [(images[rank::2], labels[rank::2]) for images, labels in joint])


def test_the_number_of_workers_changes_nothing(pets: Path, monkeypatch: pytest.MonkeyPatch):
    if "prefect" in sys.modules:
        pytest.skip("Prefect has run in this process; see no_workers_after_prefect")
    train = read_files(pets).train
    found = []
    for number in (0, 1, 3):
        monkeypatch.setattr(workers, "num_workers", lambda number=number: number)
        found.append(batches(train, range(4), STRONG) + list(train.batches(7)))
        found[-1] += batches(read(pets).train, range(4), STRONG)
    assert_equal(found[0], found[1])
    assert_equal(found[0], found[2])


def test_processes_of_a_machine_share_its_processors(monkeypatch: pytest.MonkeyPatch):
    numbers = []
    for processors, processes in ((64, 1), (64, 8), (4, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=processors: set(range(n)))
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        numbers.append(num_workers())
    assert numbers == [16, 8, 1]


@pytest.mark.parametrize("make", [read, read_files])
def test_drawing_leaves_the_default_generator_alone(pets: Path, make):
    train = make(pets).train
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    batches(train, range(2), STRONG)
    list(train.batches(9))
    assert torch.equal(torch.rand(3), expected)


def test_crops_are_taken_from_the_whole_picture(tmp_path: Path):
    rows, columns = np.mgrid[:60, :20]
    pixels = np.stack([rows * 4, columns * 12, np.zeros_like(rows)], -1).astype(np.uint8)
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(40):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    train = read_files(tmp_path).train
    stream = TrainingStream(train, 64, seed=0, augmentation=Augmentation(crop_scale=(0.1, 0.3)))
    red, green, _ = stream.batch(0)[0].unbind(1)
    top, bottom = red[:, 0].mean(1) * 255 / 4, red[:, -1].mean(1) * 255 / 4
    left, right = green[:, :, 0].mean(1) * 255 / 12, green[:, :, -1].mean(1) * 255 / 12
    assert top.min() < 10
    assert bottom.max() > 50
    areas = (bottom - top) * (right - left) / (60 * 20)
    assert 0.05 < areas.min() < 0.12
    assert 0.2 < areas.max() <= 0.3


def test_jitter_changes_colours_within_its_range(tmp_path: Path):
    grey = ImageSet(torch.full((64, 3, 4, 4), 100, dtype=torch.uint8), torch.zeros(64).long())
    jitter = Augmentation(color_jitter=0.4)
    stream = TrainingStream(grey, 64, seed=0, augmentation=jitter)
    images, _ = stream.batch(0)
    assert not torch.equal(images, stream.batch(2)[0])
    levels = images[:, 0, 0, 0] * 255
    assert levels.min() >= 59
    assert levels.max() <= 141
    assert levels.std() > 15
    assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))


def test_what_is_saved_is_loaded_and_changes_with_the_files(pets: Path, tmp_path: Path):
    train = read_files(pets).train
    assert isinstance(train, FileImages)
    train.save(tmp_path / "train.json")
    loaded = FileImages.load(tmp_path / "train.json")
    assert loaded.digest() == train.digest()
    assert torch.equal(loaded.in_memory().images, train.in_memory().images)
    assert train.subset(slice(3)).digest() != train.digest()
    first = pets / "train" / str(train.names[0])
    before = first.read_bytes()
    try:
        first.write_bytes(before + b"\0")
        assert read_files(pets).train.digest() != train.digest()
    finally:
        first.write_bytes(before)
    with pytest.raises(DataError, match=r"gone.json cannot be read: .*No such file"):
        FileImages.load(tmp_path / "gone.json")


def test_all_damaged_files_are_listed(tmp_path: Path):
    for name, count in (("a", 3), ("b", 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            image = Image.fromarray(np.full((40, 40, 3), i, dtype=np.uint8))
            image.save(tmp_path / name / f"{i}.jpg")
    (tmp_path / "a/1.jpg").write_bytes(b"junk")
    (tmp_path / "b/0.jpg").write_bytes((tmp_path / "b/0.jpg").read_bytes()[:-200])
    with pytest.raises(DataError, match=r"(?s)2 images cannot be read;.*a/1.jpg.*b/0.jpg"):
        read_files(tmp_path)


def test_a_file_that_vanishes_later_is_named(pets: Path):
    train = read_files(pets).train
    assert isinstance(train, FileImages)
    file = pets / "train" / str(train.names[0])
    content = file.read_bytes()
    file.unlink()
    stream = TrainingStream(train, 24, seed=0, augmentation=Augmentation())
    missing = rf"^{file}: .*No such file"
    try:
        for _ in range(2):
            with pytest.raises(DataError, match=missing):
                stream.batch(0)
        with pytest.raises(DataError, match=missing):
            list(train.batches(4))
    finally:
        file.write_bytes(content)
    assert len(stream.batch(0)[1]) == 24


def test_grey_and_colour_files_are_as_pillow_reads_them(pets: Path):
    train = read_files(pets).train
    for index, original in enumerate(train.originals(torch.arange(6))):
        with Image.open(pets / "train" / str(train.names[index])) as image:
            assert torch.equal(original, pil_to_tensor(image.convert("RGB")))
