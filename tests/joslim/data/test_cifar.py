"""CIFAR's binary files."""

from pathlib import Path

import pytest
import torch
from generated_data import write_cifar

from joslim import data
from joslim.errors import DataError


def read(path: Path | None, number: int, **changes) -> data.Dataset:
    options = {"channels": 3, "image_size": 32, "download": Path("none"), **changes}
    return data.read(f"cifar{number}", path, **options)


@pytest.mark.parametrize("number", [10, 100])
def test_pixels_and_labels_are_read_in_order(tmp_path: Path, number: int):
    dataset = read(write_cifar(tmp_path, number), number)
    assert dataset.test is not None
    for images, count in ((dataset.train.in_memory(), 200), (dataset.test.in_memory(), 100)):
        assert images.images.shape == (count, 3, 32, 32)
        assert torch.equal(images.images[:, 0, 0, 0].long(), images.labels)
        assert images.labels.bincount().tolist() == [count // number] * number
    assert dataset.classes == data.classes(f"cifar{number}", tmp_path)
    assert dataset.classes[number - 1] == f"class_{number - 1}"


def test_rows_and_columns_keep_their_places(tmp_path: Path):
    folder = write_cifar(tmp_path, 10)
    records = bytearray((folder / "test_batch.bin").read_bytes())
    records[1 + 2 * 1024 + 5 * 32 + 7] = 99
    (folder / "test_batch.bin").write_bytes(bytes(records))
    test = read(folder, 10).test
    assert test is not None
    assert test.in_memory().images[0, 2, 5, 7] == 99


def test_other_sizes_and_grey(tmp_path: Path):
    train = read(write_cifar(tmp_path, 10), 10, channels=1, image_size=24).train
    assert train.in_memory().images.shape == (200, 1, 24, 24)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), r"data_batch_3.bin: No such.*cifar-10-binary"),
        (lambda file: file.write_bytes(b""), "data_batch_3.bin holds 0 bytes; expected a multiple"),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), "holds 122919 bytes; .* of 3073"),
        (lambda file: file.write_bytes(b"\x0a" + file.read_bytes()[1:]), "holds the label 10; exp"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, damage, message: str):
    damage(write_cifar(tmp_path, 10) / "data_batch_3.bin")
    with pytest.raises(DataError, match=message):
        read(tmp_path, 10)


def test_what_to_fetch_is_said(tmp_path: Path):
    with pytest.raises(DataError, match=r"path is missing; source 'cifar100' .*cifar-100-binary"):
        read(None, 100)
    with pytest.raises(DataError, match=r"batches.meta.txt: No such.*\(the binary version"):
        data.classes("cifar10", tmp_path)
    write_cifar(tmp_path, 10)
    (tmp_path / "batches.meta.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"batches.meta.txt holds 2 names; expected 10"):
        data.classes("cifar10", tmp_path)
