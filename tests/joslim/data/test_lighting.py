"""Noise along the principal components of colours."""

import pytest
import torch

from joslim.data import Augmentation, ImageSet, TrainingStream
from joslim.data.augmentation import Lighting
from joslim.errors import DataError


def grey(level: int, channels: int = 3) -> ImageSet:
    images = torch.full((64, channels, 4, 5), level, dtype=torch.uint8)
    return ImageSet(images, torch.zeros(64, dtype=torch.int64))


def batch(images: ImageSet, lighting: float, step: int = 0) -> torch.Tensor:
    stream = TrainingStream(images, 64, seed=0, augmentation=Augmentation(lighting=lighting))
    return stream.batch(step)[0]


def test_offsets_have_the_covariance_of_the_components():
    lighting = Lighting(0.3)
    torch.manual_seed(0)
    offsets = torch.stack([lighting.offset() for _ in range(40_000)]).double()
    components, scales = lighting.components.double(), lighting.scales.double()
    expected = 0.3**2 * components @ torch.diag(scales**2) @ components.T
    along, _ = torch.linalg.qr(components)
    found = along.T @ torch.cov(offsets.T) @ along
    wanted = along.T @ expected @ along
    unit = wanted.diagonal().sqrt()
    torch.testing.assert_close(
        found / torch.outer(unit, unit), wanted / torch.outer(unit, unit), atol=0.03, rtol=0
    )
    assert offsets.mean(0).abs().max() < 0.3 * scales[0] / 50


def test_an_image_gets_one_colour_for_all_its_pixels():
    torch.manual_seed(3)
    expected = 100 + 255 * Lighting(0.5).offset()
    torch.manual_seed(3)
    image = Lighting(0.5)(torch.full((3, 4, 5), 100, dtype=torch.uint8))
    assert image.dtype == torch.uint8
    assert torch.equal(image, expected.round().byte().view(3, 1, 1).expand(3, 4, 5))


@pytest.mark.parametrize("level", [0, 255])
def test_pixels_keep_their_range(level: int):
    images = batch(grey(level), 1.0) * 255
    assert images.min() >= 0
    assert images.max() <= 255
    assert (images == level).float().mean() > 0.2
    assert (images - level).abs().max() < 255


def test_images_and_steps_get_colours_of_their_own():
    first, second = (batch(grey(100), 0.5, step) for step in (0, 1))
    assert len(first[:, :, 0, 0].unique(dim=0)) > 32
    assert not torch.equal(first, second)
    assert torch.equal(first, batch(grey(100), 0.5))


@pytest.mark.parametrize("channels", [1, 3])
def test_none_changes_nothing(channels: int):
    assert (batch(grey(100, channels), 0.0) * 255 == 100).all()


def test_grey_images_are_refused():
    with pytest.raises(DataError, match=r"^lighting is 0.1, but images have 1 channel;"):
        batch(grey(100, 1), 0.1)
