"""Training images on the page: drawn by the seed, as the network sees them."""

import base64
import io

import finished_run
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import pil_to_tensor

from joslim.data import Augmentation, ImageSet
from pipelines.pictures.contact_sheet import CLASSES, EACH, ContactSheet, contact_sheet
from pipelines.pictures.tiles import LARGEST, cut, data_uri, strip, tiles

NAMES = ["a", "b", "c"]
LABELS = torch.tensor([0, 1, 2] * 10 + [2])


def pixels(uri: str) -> torch.Tensor:
    content = base64.b64decode(uri.partition(",")[2])
    with Image.open(io.BytesIO(content)) as image:
        return pil_to_tensor(image)


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32), (1, 12)])
def test_small_images_are_shown_to_the_bit(channels: int, size: int) -> None:
    images = finished_run.images(LABELS, channels, size)
    sheet = contact_sheet(images, NAMES, Augmentation(), seed=0)
    assert list(sheet.rows) == NAMES
    for label, name in enumerate(NAMES):
        assert len(sheet.rows[name]) == EACH
        own = images.images[images.labels == label]
        for uri in sheet.rows[name]:
            assert any(torch.equal(pixels(uri), image) for image in own)
    assert sheet.augmented == []
    assert 48 <= sheet.shown <= LARGEST


@pytest.mark.parametrize("channels", [1, 3])
def test_large_images_are_shrunk_and_stay_like_themselves(channels: int) -> None:
    images = finished_run.images(LABELS, channels, 224)
    (shrunk,) = tiles(images.images[:1])
    assert shrunk.size == (LARGEST, LARGEST)
    shown = pixels(data_uri(shrunk)).float()
    expected = torch.nn.functional.adaptive_avg_pool2d(images.images[:1].float(), LARGEST)[0]
    assert (shown - expected).abs().mean() < 5
    sheet = contact_sheet(images, NAMES, Augmentation(), seed=0)
    assert (sheet.size, sheet.stored, sheet.shown) == (224, LARGEST, LARGEST)
    assert sum(len(uri) for row in sheet.rows.values() for uri in row) < 21 * 4000


def test_the_seed_decides() -> None:
    images = finished_run.images(LABELS)
    augmentation = Augmentation(crop_padding=2, flip=True)

    def drawn(seed: int) -> ContactSheet:
        return contact_sheet(images, NAMES, augmentation, seed)

    assert drawn(1) == drawn(1)
    assert drawn(1).rows != drawn(2).rows


def test_what_training_changes_is_the_first_image_of_each_class() -> None:
    images = finished_run.images(torch.arange(3).repeat_interleave(3))
    sheet = contact_sheet(images, NAMES, Augmentation(crop_padding=3), seed=0)
    for changed, row in zip(sheet.augmented, sheet.rows.values(), strict=True):
        padded = torch.nn.functional.pad(pixels(row[0]), (3, 3, 3, 3))
        windows = padded.unfold(1, 32, 1).unfold(2, 32, 1).permute(1, 2, 0, 3, 4)
        assert (windows.flatten(0, 1) == pixels(changed)).flatten(1).all(1).any()


def test_of_many_classes_some_are_drawn_and_classes_without_images_are_left_out() -> None:
    names = [f"class {i}" for i in range(100)]
    labels = torch.arange(0, 100, 2)
    sheet = contact_sheet(finished_run.images(labels), names, Augmentation(), seed=0)
    assert len(sheet.rows) == CLASSES
    assert set(sheet.rows) <= set(names[::2])
    assert [len(row) for row in sheet.rows.values()] == [1] * CLASSES
    numbers = [names.index(name) for name in sheet.rows]
    assert numbers == sorted(numbers)


def test_a_strip_is_cut_into_the_tiles_that_it_was_made_of() -> None:
    row = tiles(ImageSet(torch.randint(0, 256, (5, 3, 9, 9)).byte(), torch.zeros(5).long()).images)
    joined = strip(row)
    assert joined.size == (45, 9)
    assert [tile.tobytes() for tile in cut(joined)] == [tile.tobytes() for tile in row]
