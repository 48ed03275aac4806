"""Files of images that are large, long, or damaged in some way."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from checkout import SOURCE
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from joslim.data import decoding
from joslim.data.decoding import FORMATS, IS_LONG, decode, square
from joslim.errors import JoslimError


def encoded(kind: str) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


IMAGES = {kind: encoded(kind) for kind in FORMATS}


def test_only_one_file_opens_images_that_are_not_our_own():
    opening = [
        str(file.relative_to(SOURCE))
        for package in ("joslim", "pipelines", "benchmarks")
        for file in (SOURCE / package).rglob("*.py")
        if "Image.open(" in file.read_text()
    ]
    assert sorted(opening) == ["joslim/data/decoding.py", "pipelines/artifacts/mistakes.py"]


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    kind=st.sampled_from(sorted(FORMATS)),
    start=st.integers(0, 200),
    junk=st.binary(max_size=12),
    keep=st.one_of(st.none(), st.integers(0, 300)),
)
@pytest.mark.filterwarnings("ignore:::PIL")
def test_damaged_files_are_read_or_refused(kind: str, start: int, junk: bytes, keep: int | None):
    content = bytearray(IMAGES[kind])
    content[start : start + len(junk)] = junk
    message = ""
    try:
        picture = decode(Path("x"), 3, "white", bytes(content[:keep]))
    except JoslimError as error:
        message = str(error)
    assert re.fullmatch("x: .+", message) if message else picture.image.mode == "RGB"


@pytest.mark.parametrize("size", [(4000, 7), (7, 4000), (29, 7)])
def test_of_a_long_image_the_middle_is_kept(size: tuple[int, int]):
    shades = np.linspace(0, 255, max(size)).round().astype(np.uint8)
    ramp = np.broadcast_to(shades if size[0] > size[1] else shades[:, None], size[::-1])
    middle = square(Image.fromarray(ramp.copy()), 14)
    assert middle.shape == (1, 14, 14)
    shown = 255 * min(size) / max(size)
    assert (middle.float() - 127.5).abs().max() <= shown / 2 + 255 / max(size) + 1


def test_images_that_are_not_long_are_resized_as_a_whole():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 80, 3), dtype=np.uint8))
    resized = np.asarray(image.resize((64, 16), Image.Resampling.BILINEAR))[:, 24:40]
    assert torch.equal(square(image, 16), torch.tensor(resized).permute(2, 0, 1))
    content = io.BytesIO()
    image.save(content, "PNG")
    assert IS_LONG not in decode(Path("x"), 3, "white", content.getvalue()).changes


def test_a_long_image_takes_no_more_memory_than_a_square_one():
    seen = square(Image.new("L", (2_000_000, 1), 200), 224)
    assert seen.shape == (1, 224, 224)
    assert (seen == 200).all()


def test_memory_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(decoding, "as_seen", full)
    with pytest.raises(JoslimError, match="x: it is large; decoded, it does not fit into"):
        decode(Path("x"), 3, "white", IMAGES["PNG"])
