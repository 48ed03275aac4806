"""Images in tar files: as if each were a file of its own."""

import io
import itertools
import os
import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from joslim import data
from joslim.data import Augmentation, FileImages, Images, ImageSet, TrainingStream, memory
from joslim.errors import DataError

CROPPED = Augmentation(flip=True, crop_scale=(0.25, 1.0), color_jitter=0.4)
MEMORY = 2**30
Member = tuple[str, bytes]


def pack(shard: Path, members: list[Member]) -> None:
    with tarfile.open(shard, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def picture(value: int = 0, kind: str = "png") -> bytes:
    pixels = np.random.default_rng(value).integers(0, 256, (20 + value, 31, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def sample(key: str, label: int | str, value: int = 0) -> list[Member]:
    return [(f"{key}.png", picture(value)), (f"{key}.cls", str(label).encode())]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Two classes in two shards to train on."""
    root = tmp_path / "shards"
    root.mkdir()
    (root / "classes.txt").write_text("cat\ndog\n")
    for i in range(2):
        samples = [sample(f"{i}{j}", j % 2, j) for j in range(6)]
        pack(root / f"train-00000{i}.tar", [member for pair in samples for member in pair])
    return root


def read(source: str, path: Path, limit: int = 0) -> data.Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "MEMORY_LIMIT", limit)
        return data.read(source, path, channels=3, image_size=16, download=path)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same images as a folder and, in the folder's order, as shards."""
    folder, shards = (tmp_path_factory.mktemp(name) for name in ("folder", "shards"))
    (shards / "classes.txt").write_text("cat\ndog\n")
    for split, count in (("train", 9), ("test", 2)):
        samples = []
        for (label, name), i in itertools.product(enumerate(("cat", "dog")), range(count)):
            kind = "jpeg" if i % 2 else "png"
            content = picture(10 * label + i, kind)
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            (folder / split / name / f"{i}.{kind}").write_bytes(content)
            members = [(f"{name}/{i}.{kind}", content), (f"{name}/{i}.cls", b"%d\n" % label)]
            samples.append(members if i % 2 else members[::-1])
        for number, part in enumerate((samples[:7], samples[7:])):
            if part:
                pack(shards / f"{split}-{number:06d}.tar", list(itertools.chain(*part)))
    return folder, shards


def batches(images: Images, augmentation: Augmentation, steps: range = range(5), **options):
    stream = TrainingStream(images, 6, seed=5, augmentation=augmentation, **options)
    return [stream.batch(step) for step in steps]


@pytest.mark.parametrize("limit", [0, MEMORY])
@pytest.mark.parametrize("augmentation", [Augmentation(crop_padding=2), CROPPED])
def test_batches_are_those_of_a_folder(
    twice: tuple[Path, Path], augmentation: Augmentation, limit: int
):
    folder, shards = (
        read(name, path, limit) for name, path in zip(("folder", "shards"), twice, strict=True)
    )
    assert isinstance(shards.train, ImageSet if limit else FileImages)
    assert shards.classes == folder.classes
    splits = [
        data.split(dataset, val_fraction=0.2, test_fraction=0.1, seed=2)
        for dataset in (folder, shards)
    ]
    for (_, ours), (_, theirs) in zip(*(s.items() for s in splits), strict=True):
        assert torch.equal(ours.in_memory().images, theirs.in_memory().images)
        assert torch.equal(ours.labels, theirs.labels)
    drawn = [batches(dataset.train, augmentation) for dataset in (folder, shards)]
    for ours, theirs in zip(*drawn, strict=True):
        assert torch.equal(ours[0], theirs[0])
        assert torch.equal(ours[1], theirs[1])


def test_batches_go_on_alike_and_are_shared_alike(shards: Path):
    train = read("shards", shards).train
    through = batches(train, CROPPED)
    (later,) = batches(train, CROPPED, range(3, 4))
    assert torch.equal(later[0], through[3][0])
    for rank in range(2):
        part = batches(train, CROPPED, rank=rank, size=2)
        for (mine, _), (joint, _) in zip(part, through, strict=True):
            assert torch.equal(mine, joint[rank::2])


def test_what_is_saved_is_loaded_and_changes_with_the_images(shards: Path, tmp_path: Path):
    train = read("shards", shards).train
    assert isinstance(train, FileImages)
    train.save(tmp_path / "train.json")
    loaded = FileImages.load(tmp_path / "train.json")
    assert loaded.digest() == train.digest()
    assert torch.equal(loaded.in_memory().images, train.in_memory().images)
    pack(shards / "train-000001.tar", sample("10", 1, 7))
    changed = read("shards", shards).train
    assert changed.digest() != train.digest()
    assert len(changed) == 7


def test_other_members_are_passed_over(shards: Path, tmp_path: Path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    trap = pickle.dumps(Trap())
    before = len(read("shards", shards).train)
    others = [(f"x.{ending}", trap) for ending in ("pyd", "pickle", "json", "pth")]
    pack(shards / "train-000002.tar", [*others, *sample("x", 1)])
    assert len(read("shards", shards).train) == before + 1
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("limit", [0, MEMORY])
def test_all_damaged_images_are_listed(shards: Path, limit: int):
    pack(shards / "train-000002.tar", [("a.jpg", b"junk"), ("a.cls", b"0"), *sample("b", 1)])
    pack(shards / "test-000000.tar", [("c.png", picture()[:300]), ("c.cls", b"0")])
    with pytest.raises(DataError, match=r"cannot be read.*\n.*train-000002.tar/a.jpg"):
        read("shards", shards, limit)
    (shards / "train-000002.tar").unlink()
    with pytest.raises(DataError, match=r"1 image cannot be read;.*\n.*test-000000.tar/c.png"):
        read("shards", shards, limit)


@pytest.mark.parametrize("keep", [0, 700, 4096, -10240])
def test_shards_that_are_cut_short_are_listed(shards: Path, keep: int):
    pack(shards / "train-000002.tar", [m for i in range(9) for m in sample(str(i), 0, i)])
    for name in ("train-000000.tar", "train-000002.tar"):
        content = (shards / name).read_bytes()
        cut = content[:keep] if keep >= 0 else content.rstrip(b"\0")
        (shards / name).write_bytes(cut)
    with pytest.raises(
        DataError, match=r"(?s)2 shards cannot be read;.*train-000000.tar.*train-000002.tar"
    ):
        read("shards", shards)


def test_a_header_that_is_damaged_is_found(shards: Path):
    shard = shards / "train-000001.tar"
    with tarfile.open(shard) as tar:
        third = tar.getmembers()[2].offset
    content = bytearray(shard.read_bytes())
    content[third : third + 100] = b"x" * 100
    shard.write_bytes(content)
    with pytest.raises(DataError, match=rf"{shard}: it is damaged, .* at byte {third}"):
        read("shards", shards)


def test_a_shard_that_vanishes_or_shrinks_later_is_named(shards: Path):
    train = read("shards", shards).train
    shard = shards / "train-000001.tar"
    for change, message in (
        (lambda: shard.write_bytes(shard.read_bytes()[:5000]), r"its file holds \d+ of its \d+"),
        (shard.unlink, "No such file"),
    ):
        change()
        with pytest.raises(DataError, match=rf"{shard}.*: {message}"):
            batches(train, Augmentation())


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b"")], "holds the image of 'a', but not its label; expected a.cls"),
        ([("a.cls", b"0")], "holds no images; known endings: .jpg"),
        ([*sample("b", 0), ("a.cls", b"0")], "holds the label of 'a', but not its image"),
        ([*sample("a", 0), ("a.jpg", b"")], "a.jpg is not the first of 'a'; expected one"),
        (sample("a", 2), r"a.cls is '2'; expected 0 to 1, a line of classes.txt"),
        (sample("a", -1), r"a.cls is '-1'; expected 0 to 1"),
        (sample("a", "cat"), r"a.cls is 'cat'; expected 0 to 1"),
        (sample("a", ""), r"a.cls is ''; expected 0 to 1"),
    ],
)
def test_samples_are_checked(shards: Path, members: list[Member], message: str):
    pack(shards / "train-000002.tar", members)
    with pytest.raises(DataError, match=rf"1 shard cannot .*\n.*train-000002.tar.*{message}"):
        read("shards", shards)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat", "holds 1 names; expected at least 2"),
        ("cat\n\ndog\n", "line 2 is empty; expected the name of a class"),
        ("cat\ndog\ncat\n", "names 'cat' more than once"),
        ("cat\ndog\x1b[31m\n", r"names a class 'dog\\x1b\[31m'; expected UTF-8 without control"),
        ("cat\ndo\x85g\n", r"names a class 'do\\x85g'; expected UTF-8 without control"),
        ("cat\rdog\n", r"names a class 'cat\\rdog'; expected UTF-8 without control"),
        (None, "cannot be read: .*No such file.*expected the name of a class in each line"),
    ],
)
def test_classes_are_checked_without_reading_shards(shards: Path, text: str | None, message: str):
    (shards / "classes.txt").unlink()
    if text is not None:
        (shards / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=f"{shards}/classes.txt {message}"):
        data.classes("shards", shards)


def test_folders_without_shards_or_with_others_are_refused(shards: Path, tmp_path: Path):
    with pytest.raises(DataError, match="path is missing; source 'shards' needs the folder of"):
        data.classes("shards", None)
    with pytest.raises(DataError, match="gone is not a folder; expected a folder of shards"):
        read("shards", tmp_path / "gone")
    for name in ("extra-000000.tar", "train-000002.tar.gz"):
        (shards / name).touch()
        with pytest.raises(DataError, match=f"holds {re.escape(name)}; expected train-"):
            read("shards", shards)
        (shards / name).unlink()
    for shard in shards.glob("*.tar"):
        shard.unlink()
    with pytest.raises(DataError, match=r"holds no shards; expected train-\*.tar"):
        read("shards", shards)


def test_classes_from_other_editors_are_the_same(shards: Path):
    (shards / "classes.txt").write_bytes("\ufeffcat\r\nété dog \r\n".encode())
    assert data.classes("shards", shards) == ("cat", "été dog")
    (shards / "classes.txt").write_bytes(b"cat\nd\xf6g\n")
    with pytest.raises(DataError, match=r"classes.txt cannot be read: .*utf-8.*can't decode"):
        data.classes("shards", shards)


def test_splits_may_be_shards_of_their_own(shards: Path):
    pack(shards / "val-000000.tar", sample("a", 0))
    with pytest.raises(DataError, match=r"holds train-\*.tar and val-\*.tar, but no test; rename"):
        read("shards", shards)
    pack(shards / "test-000000.tar", [*sample("b", 0), *sample("c", 1)])
    dataset = read("shards", shards)
    assert [len(images or ()) for images in (dataset.train, dataset.val, dataset.test)] == [
        12,
        1,
        2,
    ]


def test_what_is_passed_over_or_changed_is_said(shards: Path):
    (shards / "README.txt").write_text("pets")
    (shards / ".train-000000.tar.swp").touch()
    content = io.BytesIO()
    Image.new("LA", (9, 9), (5, 0)).save(content, "png")
    members = [("x.png", content.getvalue()), ("x.cls", b"1"), ("x.json", b"{}"), ("y.json", b"{}")]
    pack(shards / "train-000002.tar", members)
    dataset = data.read(
        "shards", shards, channels=3, image_size=16, download=shards, background="#c80000"
    )
    assert [(remark.count, remark.what, remark.example) for remark in dataset.remarks] == [
        (2, "files that are no shards, passed over", ".train-000000.tar.swp"),
        (
            2,
            "members of shards that are neither image nor label, passed over",
            "train-000002.tar/x.json",
        ),
        (1, "transparent images, laid on #c80000", "train-000002.tar/x.png"),
    ]
    images = dataset.train.in_memory().images
    assert images[-1].flatten(1).unique(dim=1).flatten().tolist() == [200, 0, 0]


def test_a_shard_that_is_no_file_is_named(shards: Path):
    os.mkfifo(shards / "train-000002.tar")
    (shards / "train-000003.tar").symlink_to("gone")
    with pytest.raises(
        DataError, match=r"(?s)2 shards cannot.*2.tar: not a file, but.*3.tar: a link to nothing"
    ):
        read("shards", shards)
    (shards / "classes.txt").unlink()
    os.mkfifo(shards / "classes.txt")
    with pytest.raises(DataError, match=r"classes.txt cannot be read: .*: not a file, but a"):
        data.classes("shards", shards)
