"""Images as a viewer shows them."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from joslim.colours import is_colour
from joslim.data.appearance import OTHER_COLOURS, SCALED, TURNED, laid_on
from joslim.data.decoding import Picture, decode
from joslim.errors import DataError

RAMP = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def seen(content: bytes, channels: int = 1, background: str = "white") -> Picture:
    return decode(Path("x"), channels, background, content)


def png(depth: int, colour: int, row: bytes, **chunks: bytes) -> bytes:
    """A PNG of two pixels, as Pillow does not write all kinds."""

    def chunk(name: str, content: bytes) -> bytes:
        body = name.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 2, 1, depth, colour, 0, 0, 0)
    parts = {"IHDR": header, **chunks, "IDAT": zlib.compress(b"\0" + row), "IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts.items())


def tiff_of_big_ends(values: np.ndarray) -> bytes:
    """A TIFF of 16-bit numbers, the higher byte first."""
    entries = [(256, 16), (257, 16), (258, 16), (259, 1), (262, 1), (273, 8 + 2 + 8 * 12 + 4)]
    entries += [(278, 16), (279, values.size * 2)]
    head = b"MM\0*" + struct.pack(">IH", 8, len(entries))
    fields = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in entries)
    return head + fields + bytes(4) + values.astype(">u2").tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_stand_upright(kind: str, orientation: int):
    """Stored as the opposite of what EXIF asks for, an image is seen as it was."""
    image = Image.new("L", (40, 24), 255)
    image.paste(0, (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = {6: 8, 8: 6}.get(orientation, orientation)
    turned = image.copy()
    turned.info["exif"] = exif.tobytes()
    turned = ImageOps.exif_transpose(turned)
    exif[0x0112] = orientation
    picture = seen(encoded(turned.convert("RGB"), kind, exif=exif))
    assert picture.image.size == (40, 24)
    assert picture.changes == ((TURNED,) if orientation > 1 else ())
    off = np.asarray(picture.image, dtype=int) - np.asarray(image)
    assert np.abs(off).mean() < 8


@pytest.mark.parametrize(
    "content",
    [
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), "PNG"),
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), "TIFF"),
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.int32)), "TIFF"),
        encoded(Image.fromarray(np.rint(RAMP * 65535).astype(np.uint16)), "PPM"),
        tiff_of_big_ends(np.rint(RAMP * 65535)),
        encoded(Image.fromarray(RAMP), "TIFF"),
        encoded(Image.fromarray(RAMP), "PPM"),
    ],
    ids=["16 bits", "16 bits, TIFF", "32 bits", "16 bits, PGM", "big ends", "floats", "PFM"],
)
def test_more_bits_are_scaled(content: bytes):
    picture = seen(content)
    assert picture.changes == (SCALED,)
    assert np.array_equal(np.asarray(picture.image), GREY)


def test_colours_of_16_bits_keep_their_upper_8():
    row = struct.pack(">6H", 0, 0x7FFF, 0xFFFF, 0x1234, 0x5678, 0x9ABC)
    picture = seen(png(16, 2, row), 3)
    assert picture.changes == (SCALED,)
    assert np.asarray(picture.image).tolist() == [[[0, 0x7F, 0xFF], [0x12, 0x56, 0x9A]]]


TRANSPARENT = {
    "grey of 1 bit": png(1, 0, b"\x80", tRNS=b"\0\1"),
    "grey of 2 bits": png(2, 0, b"\xc0", tRNS=b"\0\3"),
    "grey of 4 bits": png(4, 0, b"\xf0", tRNS=b"\0\x0f"),
    "grey of 8 bits": png(8, 0, b"\xff\0", tRNS=b"\0\xff"),
    "grey of 16 bits": png(16, 0, b"\xff\xfe\0\0", tRNS=b"\xff\xfe"),
    "RGB of 8 bits": png(8, 2, b"\1\2\3\0\0\0", tRNS=b"\0\1\0\2\0\3"),
    "RGB of 16 bits": png(16, 2, b"\1\1\2\2\3\3" + bytes(6), tRNS=b"\1\1\2\2\3\3"),
    "a palette": png(8, 3, b"\1\0", PLTE=b"\0\0\0\xff\0\0", tRNS=b"\xff\0"),
    "a palette of 1 bit": png(1, 3, b"\x80", PLTE=b"\0\0\0\xff\0\0", tRNS=b"\xff\0"),
    "LA of 8 bits": png(8, 4, b"\x64\0\0\xff"),
    "LA of 16 bits": png(16, 4, b"\x64\0\0\0\0\0\xff\xff"),
    "RGBA of 8 bits": png(8, 6, b"\x64\0\0\0\0\0\0\xff"),
    "RGBA of 16 bits": png(16, 6, b"\x64\0" + bytes(12) + b"\xff\xff"),
}
PIXELS = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
PIXELS.putpixel((0, 0), (90, 0, 0, 0))
PALETTE = Image.new("P", (2, 1), 0)
PALETTE.putpalette([0, 0, 0, 255, 0, 0])
PALETTE.putpixel((0, 0), 1)
TRANSPARENT |= {
    "WebP": encoded(PIXELS, "WEBP", lossless=True),
    "TIFF": encoded(PIXELS, "TIFF"),
    "AVIF": encoded(PIXELS, "AVIF", quality=100, subsampling="4:4:4"),
    "GIF": encoded(PALETTE, "GIF", transparency=1),
}


@pytest.mark.parametrize("kind", TRANSPARENT)
@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_pixels_show_the_ground(kind: str, channels: int):
    """The first pixel of each is transparent, the second black."""
    picture = seen(TRANSPARENT[kind], channels, "#c8c8c8")
    assert laid_on("#c8c8c8") in picture.changes
    first, second = np.asarray(picture.image).reshape(2, -1)
    assert first.tolist() == [200] * channels
    assert second.max() < 3


def test_half_transparent_pixels_are_mixed():
    image = Image.new("RGBA", (1, 1), (200, 0, 100, 51))
    picture = seen(encoded(image, "PNG"), 3, "blue")
    assert picture.image.getpixel((0, 0)) == (40, 0, 224)


def test_an_image_that_could_be_transparent_but_is_not_stays_as_it_is():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    picture = seen(encoded(Image.fromarray(pixels), "PNG"), 3)
    assert picture.changes == ()
    assert np.array_equal(np.asarray(picture.image), pixels[..., :3])


@pytest.mark.parametrize("mode", ["CMYK", "LAB", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_colours_become_rgb(mode: str, channels: int):
    image = Image.new("RGB", (4, 4), (200, 30, 60))
    stored = image.convert(mode)
    picture = seen(encoded(stored, "TIFF"), channels)
    wanted = np.asarray(image.convert(picture.image.mode), dtype=int)
    assert picture.changes == (OTHER_COLOURS,)
    assert np.abs(np.asarray(picture.image) - wanted).max() <= 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.float32([[0, 1.5]]), "x: its values go from 0 to 1.5; expected 0 to 1, or 8 bits"),
        (np.float32([[np.nan, 1]]), "x: its values go from nan to nan; expected 0 to 1, or"),
        (np.int32([[-5, 1]]), "x: its values go from -5 to 1; expected 0 to 65535, or 8 bits"),
    ],
)
def test_numbers_of_unknown_range_are_refused(values: np.ndarray, message: str):
    with pytest.raises(DataError, match=message):
        seen(encoded(Image.fromarray(values), "TIFF"))


@pytest.mark.parametrize("name", ["white", "#fff", "#a1B2c3", "rgb(1, 2, 3)"])
def test_colours_are_known(name: str):
    assert is_colour(name)


@pytest.mark.parametrize("name", ["", "chessboard", "#ff", "#ffffff00", "rgba(1, 2, 3, 4)"])
def test_other_names_are_no_colours(name: str):
    assert not is_colour(name)
