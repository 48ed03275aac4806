"""What is done with each kind of file: a test for each row of the table in docs/guides/data.md."""

import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkout import SOURCE
from PIL import Image, features

from joslim import data
from joslim.data import Dataset, FileImages, memory
from joslim.data.appearance import (
    DAMAGED_EXTRAS,
    FIRST_FRAME,
    OTHER_COLOURS,
    SCALED,
    TURNED,
    laid_on,
)
from joslim.data.decoding import ENDINGS, FORMATS, IS_LONG
from joslim.errors import DataError

SIZE = 8
DARK, LIGHT = 40, 200
GREY = Image.new("L", (SIZE, SIZE), LIGHT)

Check = Callable[[Path], None]
ROWS: dict[str, Check] = {}


def row(name: str) -> Callable[[Check], Check]:
    """A check of one row. It gets a folder of two classes, ``cat`` and ``dog``, of two images."""

    def keep(check: Check) -> Check:
        ROWS[name] = check
        return check

    return keep


def read(pets: Path, channels: int = 3, **options: str) -> Dataset:
    options = {"download": pets, **options}
    return data.read("folder", pets, channels=channels, image_size=SIZE, **options)


def left_in_files(pets: Path) -> FileImages:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MEMORY_LIMIT", 0)
        train = read(pets).train
    assert isinstance(train, FileImages)
    return train


def said(dataset: Dataset) -> dict[str, int]:
    return {remark.what: remark.count for remark in dataset.remarks}


def refused(pets: Path, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(pets)


def pixels(pets: Path, image: Image.Image, name: str, what: str = "", **options) -> np.ndarray:
    """The image as it is read; checks that it is remarked, and that it alone is."""
    image.save(pets / "cat" / name, **options)
    dataset = read(pets)
    assert said(dataset) == ({what: 1} if what else {})
    place = sorted(file.name for file in (pets / "cat").iterdir()).index(name)
    return dataset.train.in_memory().images[place].permute(1, 2, 0).numpy()


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        GREY.save(folder / name, "png")
    return folder


def write_classes(root: Path) -> Path:
    for label in ("cat", "dog"):
        write(root / label, "1.png", "2.png")
    return root


@row("`.jpg` `.jpeg` `.jpe` `.jfif` `.png` `.webp` `.avif` `.gif` `.bmp` `.tif` `.tiff` `.ppm` "
     "`.pgm` `.pbm` `.pnm`")  # fmt: skip
def formats(pets: Path) -> None:
    for kind, endings in FORMATS.items():
        for ending in endings:
            GREY.save(pets / "cat" / f"x{ending.upper()}", kind)
    images = read(pets).train.in_memory().images
    assert len(images) == 4 + len(ENDINGS)
    assert (images.float() - LIGHT).abs().max() <= 2
    assert features.check("avif")


@row("other endings")
def other_endings(pets: Path) -> None:
    for name in ("a.txt", "b.heic", "c.heic", "README"):
        (pets / "cat" / name).write_bytes(b"x")
    assert said(read(pets)) == {
        "files of other endings, passed over": 1,
        "files ending in .txt, passed over": 1,
        "files ending in .heic, passed over": 2,
    }


@row("another format than the ending says")
def other_format(pets: Path) -> None:
    GREY.save(pets / "cat/x.jpg", "png")
    assert len(read(pets).train) == 5


@row("other formats under these endings")
def programs(pets: Path) -> None:
    """An EPS runs Ghostscript if Pillow is let."""
    GREY.convert("RGB").save(pets / "cat/x.png", "eps")
    refused(
        pets,
        r"1 image cannot .*\n.*cat/x.png: not an image that can be read; expected JPEG",
    )


@row("EXIF orientation")
def orientation(pets: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.repeat([DARK, LIGHT], [SIZE // 2] * 2)[:, None] + np.zeros(SIZE))
    shown = pixels(pets, image.convert("L"), "x.png", TURNED, exif=exif)[..., 0]
    assert (shown[:, SIZE // 2 :] == DARK).all()
    assert (shown[:, : SIZE // 2] == LIGHT).all()


@row("damaged data beside the pixels, as EXIF")
def damaged_extras(pets: Path) -> None:
    for exif in (b"junkjunk", b"Exif\0\0MM\0*junk"):
        assert (pixels(pets, GREY, "x.png", DAMAGED_EXTRAS, exif=exif) == LIGHT).all()
        assert (left_in_files(pets).in_memory().images == LIGHT).all()


@row("16 bits per colour")
def sixteen_bits(pets: Path) -> None:
    image = Image.fromarray(np.full((SIZE, SIZE), 257 * LIGHT, dtype=np.uint16))
    assert (pixels(pets, image, "x.png", SCALED) == LIGHT).all()


@row("numbers from 0 to 1")
def floats(pets: Path) -> None:
    image = Image.fromarray(np.full((SIZE, SIZE), LIGHT / 255, dtype=np.float32))
    assert (pixels(pets, image, "x.tif", SCALED) == LIGHT).all()


@row("other numbers")
def other_numbers(pets: Path) -> None:
    for values in (np.float32([[0, 2.5]]), np.float32([[0, np.nan]]), np.int32([[-1, 2]])):
        Image.fromarray(values).save(pets / "cat/x.tif")
        refused(pets, r"cat/x.tif: its values go from .* to .*; expected 0 to (1|65535), or 8 bits")


@row("transparent pixels")
def transparent(pets: Path) -> None:
    image = Image.new("RGBA", (SIZE, SIZE), (DARK, DARK, DARK, 0))
    assert (pixels(pets, image, "x.png", laid_on("white")) == 255).all()
    on_red = read(pets, background="#ff0000").train.in_memory().images[-3]
    assert on_red.flatten(1).unique(dim=1).flatten().tolist() == [255, 0, 0]


@row("several frames")
def frames(pets: Path) -> None:
    more = {"save_all": True, "append_images": [Image.new("L", (SIZE, SIZE), DARK)]}
    assert (pixels(pets, GREY, "x.gif", FIRST_FRAME, **more) == LIGHT).all()


@row("CMYK, Lab and YCbCr")
def other_colours(pets: Path) -> None:
    image = Image.new("CMYK", (SIZE, SIZE), (255 - LIGHT, 255 - LIGHT, 255 - LIGHT, 0))
    assert (pixels(pets, image, "x.tif", OTHER_COLOURS) == LIGHT).all()


@row("1 bit, or a palette")
def few_colours(pets: Path) -> None:
    assert (pixels(pets, Image.new("1", (SIZE, SIZE), 1), "x.png") == 255).all()
    palette = Image.new("P", (SIZE, SIZE), 1)
    palette.putpalette([0, 0, 0, DARK, DARK, LIGHT])
    assert (pixels(pets, palette, "x.png") == (DARK, DARK, LIGHT)).all()


@row("more than 89,478,485 pixels")
def many_pixels(pets: Path) -> None:
    for size in ((9500, 9500), (14_000, 14_000)):
        Image.new("1", size).save(pets / "cat/x.png")
        refused(pets, r"cat/x.png: it is large; expected at most 89,478,485 pixels")


@row("more than 1 GiB")
def many_bytes(pets: Path) -> None:
    with (pets / "cat/x.png").open("wb") as file:
        file.truncate(2**31)
    refused(pets, r"cat/x.png: it is large, 2.0 GiB; expected at most 1 GiB")


@row("more than 4 times as long as wide")
def long(pets: Path) -> None:
    strip = np.full((10, 20_000), DARK, dtype=np.uint8)
    strip[:, 9_900:10_100] = LIGHT
    assert (pixels(pets, Image.fromarray(strip), "x.png", IS_LONG) == LIGHT).all()


@row("damaged or cut short")
def damaged(pets: Path) -> None:
    file = pets / "dog/1.png"
    file.write_bytes(file.read_bytes()[:-20])
    (pets / "cat/x.jpg").write_bytes(b"")
    refused(pets, r"(?s)2 images cannot be read;.*cat/x.jpg: not an image.*dog/1.png: ")


@row("links to nothing")
def dead_links(pets: Path) -> None:
    (pets / "cat/notes").symlink_to("gone")
    assert said(read(pets)) == {"links to nothing, passed over": 1}
    (pets / "cat/x.jpg").symlink_to("gone")
    refused(pets, r"cat/x.jpg: a link to nothing")


@row("pipes, sockets and devices")
def no_files(pets: Path) -> None:
    os.mkfifo(pets / "cat/pipe")
    assert said(read(pets)) == {"pipes, sockets or devices, passed over": 1}
    os.mkfifo(pets / "cat/x.jpg")
    (pets / "dog/x.jpg").symlink_to("/dev/zero")
    (pets / "dog/x.png").mkdir()
    with socket.socket(socket.AF_UNIX) as plug, pytest.MonkeyPatch.context() as patch:
        patch.chdir(pets / "dog")
        plug.bind("y.jpg")
    refused(pets, r"(?s)3 images cannot be read(.*/(x|y).jpg: not a file, but a folder, a pipe){3}")


@row("hidden files and folders")
def hidden(pets: Path) -> None:
    shutil.copytree(pets / "cat", pets / ".ipynb_checkpoints")
    shutil.copytree(pets / "cat", pets / "cat/.ipynb_checkpoints")
    (pets / "cat/.#x.jpg").symlink_to("someone@somewhere.1234")
    dataset = read(pets)
    assert dataset.classes == ("cat", "dog")
    assert said(dataset) == {"hidden files or folders, passed over": 3}
    assert len(dataset.train) == 4


@row("links to files and folders")
def links(pets: Path) -> None:
    more = write(pets.parent / "more", "1.png", "2.png", "3.png")
    (pets / "cat/more").symlink_to(more)
    (pets / "dog/x.png").symlink_to(more / "1.png")
    dataset = read(pets)
    assert said(dataset) == {"links to folders, followed": 1}
    assert dataset.train.labels.bincount().tolist() == [5, 3]


@row("links that lead around, or to the same folder again")
def circles(pets: Path) -> None:
    (pets / "cat/up").symlink_to(pets)
    (pets / "cat/self").symlink_to("self")
    (pets / "dog/cats").symlink_to(pets / "cat")
    dataset = read(pets)
    assert len(dataset.train) == 4
    assert said(dataset) == {
        "links to folders that are read elsewhere, passed over": 2,
        "links to nothing, passed over": 1,
    }


@row("file names that are not UTF-8")
def no_utf8(pets: Path) -> None:
    (pets / "cat/1.png").rename(os.fsdecode(bytes(pets / "cat") + b"/\xff\n.png"))
    (pets / "cat/2.png").rename(os.fsdecode(bytes(pets / "cat") + b"/\xe9t\xe9.txt"))
    dataset = read(pets)
    assert len(dataset.train) == 3
    assert dataset.remarks[0].example == r"cat/\udce9t\udce9.txt"
    files = left_in_files(pets)
    files.save(pets.parent / "train.json")
    loaded = FileImages.load(pets.parent / "train.json")
    assert loaded.digest() == files.digest()
    assert loaded.in_memory().digest() == dataset.train.digest()
    (pets / "dog/1.png").write_bytes(b"junk")
    (pets / "dog/1.png").rename(os.fsdecode(bytes(pets / "dog") + b"/\xff\n.png"))
    refused(pets, r"dog/\\udcff\\n.png: not an image")


@row("class names that are not UTF-8, or hold control characters")
def class_names(pets: Path) -> None:
    for name, shown in ((b"\xff", r"\\udcff"), (b"a\x1b[31m", r"a\\x1b\[31m"), (b"a\nb", r"a\\nb")):
        other = Path(os.fsdecode(bytes(pets) + b"/" + name))
        (pets / "dog").rename(other)
        with pytest.raises(DataError, match=f"names a class '{shown}'; expected UTF-8 without"):
            data.classes("folder", pets)
        other.rename(pets / "dog")


@row("`train` or `training`, with `test` or `testing`, in capitals or not")
def train_and_test(pets: Path) -> None:
    write_classes(pets / "Training")
    write_classes(pets / "TEST")
    (pets / "TEST/cat/1.png").unlink()
    for label in ("cat", "dog"):
        shutil.rmtree(pets / label)
    dataset = read(pets)
    assert dataset.classes == ("cat", "dog")
    assert (len(dataset.train), len(dataset.test or ()), dataset.val) == (4, 3, None)
    assert {(remark.what, remark.count, remark.example) for remark in dataset.remarks} == {
        ("images in a folder of the split train", 4, "Training"),
        ("images in a folder of the split test", 3, "TEST"),
    }


@row("… with `val`, `valid` or `validation` too")
def train_val_and_test(pets: Path) -> None:
    for name in ("train", "Validation", "test"):
        write_classes(pets / name)
    GREY.save(pets / "Validation/cat/3.png")
    splits = data.split(read(pets), val_fraction=0.5, test_fraction=0.5, seed=0)
    assert [len(images) for _, images in splits.items()] == [4, 5, 4]


@row("`train` with `val`, but no `test`")
def train_and_val(pets: Path) -> None:
    for name in ("train", "val"):
        write_classes(pets / name)
    refused(pets, r"pets holds train and val, but no test; rename val to test if results are")


@row("`test` or `val` without `train`, or two of a kind")
def no_train(pets: Path) -> None:
    write_classes(pets / "Testing")
    refused(pets, r"pets holds Testing, but no train to train on; these names are taken for splits")
    write_classes(pets / "train")
    write_classes(pets / "test")
    refused(pets, r"pets holds Testing and test; expected one of them")


@row("splits of other classes")
def other_classes(pets: Path) -> None:
    for name in ("train", "test"):
        write_classes(pets / name)
    write(pets / "test/cow", "1.png")
    refused(pets, r"pets/test and .*pets/train hold different class folders; .* holds cow$")


@row("files beside the class folders, folders beside `train`")
def outside(pets: Path) -> None:
    write(pets, "cat.png")
    assert said(read(pets)) == {"files outside of the class folders, passed over": 1}
    for name in ("train", "test"):
        write_classes(pets / name)
    dataset = read(pets)
    assert len(dataset.train) == 4
    assert said(dataset)["files outside of the class folders, passed over"] == 5


@row("classes without images")
def no_images(pets: Path) -> None:
    (pets / "cow").mkdir()
    refused(pets, r"no images in .*pets/cow; known endings: .jpg, .jpeg")


@pytest.mark.parametrize("name", list(ROWS))
def test_each_row(name: str, tmp_path: Path):
    ROWS[name](write_classes(tmp_path / "pets"))


def test_the_guide_has_the_same_rows():
    guide = (SOURCE / "docs/guides/data.md").read_text()
    table = guide[guide.index("## Kinds of files") :].partition("\n\n## ")[0]
    assert re.findall(r"^\| (.+?) \| ", table, re.MULTILINE)[1:] == list(ROWS)
