"""Tar files whose headers lie."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joslim.data.tar_members import MAX_EXTENSION, tar_members
from joslim.errors import DataError, JoslimError

BLOCK = tarfile.BLOCKSIZE


def packed(*infos: tarfile.TarInfo, form: int = tarfile.GNU_FORMAT) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w", format=form) as tar:
        for info in infos:
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    return content.getvalue()


def member(name: str, size: int = 700, /, **headers: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.pax_headers = size, headers
    return info


PLAIN = packed(member("a.png"), member("a.cls", 1), member("b.png", 0))
EXTENDED = packed(
    member("a.png"), member("é" * 200 + ".png"), member("a.cls", 1, comment="x"),
    form=tarfile.PAX_FORMAT,
)  # fmt: skip
LONG_NAMES = packed(member("a.png"), member("x" * 300 + ".png"))


def with_header(content: bytes, place: int, field: slice, value: bytes) -> bytes:
    """One field of the header at ``place`` changed, its checksum made right again."""
    header = bytearray(content[place : place + BLOCK])
    header[field] = value.ljust(field.stop - field.start, b"\0")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return content[:place] + bytes(header) + content[place + BLOCK :]


SIZE, KIND = slice(124, 136), slice(156, 157)


def names(shard: Path, content: bytes) -> list[str]:
    shard.write_bytes(content)
    return [info.name for info, _ in tar_members(shard)]


def test_all_members_are_told_of(tmp_path: Path):
    assert names(tmp_path / "x.tar", PLAIN) == ["a.png", "a.cls", "b.png"]
    assert names(tmp_path / "x.tar", EXTENDED) == ["a.png", "é" * 200 + ".png", "a.cls"]
    assert names(tmp_path / "x.tar", LONG_NAMES)[1] == "x" * 300 + ".png"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_header(PLAIN, 0, SIZE, b"\xff" * 10 + b"\xfc\0"), "'a.png' has -1024 bytes"),
        (with_header(PLAIN, 0, SIZE, b"\x80\0\0\0\0\x0f" + bytes(6)), "cut short, in 'a.png'"),
        (with_header(PLAIN, 3 * BLOCK, SIZE, b"77777777777"), "cut short, in 'a.cls'"),
        (with_header(PLAIN, 0, KIND, b"S"), "or is sparse; expected files"),
        (packed(member("a", 9, size="-4096"), form=tarfile.PAX_FORMAT), "'a' has -4096 bytes"),
        (
            packed(member("a", 9, **{"GNU.sparse.map": "0,9", "GNU.sparse.size": "99999999999"}),
                   form=tarfile.PAX_FORMAT),
            "'a' has .* bytes, or is sparse",
        ),
        (with_header(LONG_NAMES, 3 * BLOCK, SIZE, b"%011o" % (MAX_EXTENSION + 1)), "has 1048577 b"),
        (with_header(LONG_NAMES, 3 * BLOCK, SIZE, b"\xff" * 10 + b"\xfc\0"), "has -1024 bytes"),
        (b"", "is damaged: "),
        (b"<html>" * 500, "is damaged: "),
    ],
)  # fmt: skip
def test_what_headers_claim_is_not_believed(tmp_path: Path, content: bytes, message: str):
    with pytest.raises(DataError, match=rf"^{tmp_path}/x.tar: .*({message})"):
        names(tmp_path / "x.tar", content)


CHANGES: dict[str, Callable[[bytes, int, bytes], bytes]] = {
    "size": lambda content, place, value: with_header(content, place, SIZE, value[:12]),
    "kind": lambda content, place, value: with_header(content, place, KIND, value[:1]),
    "header": lambda content, place, value: with_header(
        content, place, slice(0, len(value)), value
    ),
    "content": lambda content, place, value: (
        content[: place + BLOCK] + value + content[place + BLOCK + len(value) :]
    ),
    "cut": lambda content, place, value: content[: place + len(value)],
}


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(
    content=st.sampled_from([PLAIN, EXTENDED, LONG_NAMES]),
    changes=st.lists(
        st.tuples(
            st.sampled_from(sorted(CHANGES)),
            st.integers(0, 8),
            st.one_of(
                st.binary(min_size=1, max_size=148),
                st.sampled_from([b"L", b"x", b"g", b"S", b"X", b"K", b"0", b"1", b"5"]),
                st.integers(-(2**63), 2**63).map(lambda n: n.to_bytes(12, "big", signed=True)),
                st.sampled_from([b"21 GNU.sparse.major=1\n21 GNU.sparse.minor=0\n",
                                 b"13 size=-512\n", b"18 size=999999999\n", b"0 a=b\n"]),
            ),
        ),
        min_size=1, max_size=3,
    ),
)  # fmt: skip
def test_any_header_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, changes: list[tuple[str, int, bytes]]
):
    for change, block, value in changes:
        if len(content) >= (block + 1) * BLOCK:
            content = CHANGES[change](content, block * BLOCK, value)
    shard = tmp_path_factory.getbasetemp() / "fuzzed.tar"
    message = ""
    try:
        found = names(shard, content)
    except JoslimError as error:
        message = str(error)
    assert message.startswith(f"{shard}: ") if message else len(found) <= len(content) // BLOCK
