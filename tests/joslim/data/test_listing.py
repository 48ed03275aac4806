"""The one list of a dataset's files."""

from pathlib import Path

import pytest

from joslim.data.listing import Kind, folders, list_files
from joslim.errors import DataError


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * len(name))


def test_files_come_in_the_order_of_their_paths_parts(tmp_path: Path):
    write(tmp_path, "b.png", "a/z.png", "a.png", "a/b/c.png", "a-b/1.png")
    entries = list(list_files(tmp_path))
    expected = sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [tmp_path / entry.name for entry in entries] == expected
    for entry in entries:
        status = (tmp_path / entry.name).stat()
        assert (entry.size, entry.changed) == (status.st_size, status.st_mtime_ns)


def test_links_are_followed_but_never_around(tmp_path: Path):
    write(tmp_path, "images/a/1.png", "else/2.png", "else/deep/3.png")
    root = tmp_path / "images"
    for name, target in (
        ("a/else", "../../else"), ("b", "../else/deep"), ("a/up", ".."), ("a/me", "me"),
    ):  # fmt: skip
        (root / name).symlink_to(target)
    (tmp_path / "else/back").symlink_to(root)
    assert [(entry.name, entry.kind) for entry in list_files(root)] == [
        ("a/1.png", Kind.FILE),
        ("a/else", Kind.LINKED_FOLDER),
        ("a/else/2.png", Kind.FILE),
        ("a/else/back", Kind.REPEATED_FOLDER),
        ("a/else/deep/3.png", Kind.FILE),
        ("a/me", Kind.DEAD_LINK),
        ("a/up", Kind.REPEATED_FOLDER),
        ("b", Kind.REPEATED_FOLDER),
    ]
    assert folders(root) == ["a", "b"]


def test_folders_that_all_link_to_each_other_end(tmp_path: Path):
    """Each way through them would be another path, of which there are more than could be walked."""
    places = [tmp_path / str(i) for i in range(12)]
    for place in places:
        place.mkdir()
        (place / "1.png").touch()
        for other in places:
            (place / f"to {other.name}").symlink_to(other)
    assert sum(entry.kind is Kind.FILE for entry in list_files(tmp_path)) == 12


def test_deep_folders_are_walked(tmp_path: Path):
    deep = tmp_path.joinpath(*("d" * 400))
    deep.mkdir(parents=True)
    (deep / "1.png").touch()
    assert [entry.name for entry in list_files(tmp_path)] == ["d/" * 400 + "1.png"]


def test_a_folder_that_is_missing_is_named(tmp_path: Path):
    with pytest.raises(DataError, match="gone cannot be read: No such file"):
        list(list_files(tmp_path / "gone"))
