"""What a tar file holds, by Python's `tarfile`, whatever its headers claim."""

import os
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from joslim.data.file_content import opened
from joslim.data.names import printable
from joslim.errors import DataError

MAX_EXTENSION = 2**20
"""Bytes of a header that is stored like a file: a long name, or attributes."""

_EXTENSIONS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)

_DAMAGE = (
    tarfile.TarError, struct.error, ValueError, LookupError, TypeError, ArithmeticError,
    RuntimeError, MemoryError,
)  # fmt: skip
"""What `tarfile` raises for headers that make no sense."""


def tar_members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    """The members of an uncompressed tar file in its order, each inside of the file.

    Raises:
        DataError: If the file is missing, cut short or damaged, or if a member is sparse, with the
            file's name.
    """
    shown = printable(shard)
    with opened(shard) as file:
        length = os.fstat(file.fileno()).st_size
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Header) as tar:
                for member in tar:
                    _check(member, length)
                    yield member, tar
                end = tar.offset
            file.seek(end)
            block = file.read(tarfile.BLOCKSIZE)
        except DataError as error:
            raise DataError(f"{shown}: {error}") from error
        except _DAMAGE as error:
            raise DataError(f"{shown}: it is damaged: {printable(str(error))}") from error
    if block != bytes(tarfile.BLOCKSIZE):
        raise DataError(f"{shown}: it is damaged, or cut short, at byte {end}")


class _Header(tarfile.TarInfo):
    """Refuses what `tarfile` would read at once, before it believes the size."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENSIONS and not 0 <= header.size <= MAX_EXTENSION:
            raise DataError(_complaint(header))
        return header


def _check(member: tarfile.TarInfo, length: int) -> None:
    """Whether it lies in the file; by a negative size, `tarfile` would go back for the next."""
    if member.size < 0 or member.issparse():
        raise DataError(_complaint(member))
    if member.isreg() and member.offset_data + member.size > length:
        raise DataError(f"it is cut short, in '{printable(member.name)}'")


def _complaint(member: tarfile.TarInfo) -> str:
    return (
        f"it is damaged: '{printable(member.name)}' has {member.size} bytes, or is sparse; "
        "expected files that are stored as a whole"
    )
