"""What a file holds: its own bytes, those in a gzip, or the members of a zip, told by content and not by name.

Checksums of archives are verified by reading to the end. Source: reference art 2.1, "Container"; 4.2 R1.
"""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from headrace.datasets.errors import ContentTooLarge, DamagedArchive, UnusableArchive

GZIP = b"\x1f\x8b"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
LARGEST_CONTENT = 1 << 40
"""Bytes that an archive may hold, unless told otherwise: 1 TiB."""

_BROKEN = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, struct.error)


class Member:
    """One stream of lines: the plain file, what a gzip holds, or a member of a zip; `number` counts from 1.

    It is named by number, since a member's own name comes from the network.
    """

    def __init__(self, stream: BinaryIO, number: int, of: int, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        self.number = number
        self.name = "the file" if of == 1 else f"member {number} of {of}"

    def read(self, size: int) -> bytes:
        """The next bytes, at most `size`; none at the end, where a checksum has been compared.

        Raises DamagedArchive or ContentTooLarge.
        """
        try:
            block = self._stream.read(size)
        except _BROKEN as error:
            raise DamagedArchive(problem=f"{self.name}: {_problem(error)}") from error
        self._budget.take(len(block))
        return block


class _Budget:
    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.left = limit

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise ContentTooLarge(limit=self.limit)


def members(file: BinaryIO, limit: int = LARGEST_CONTENT) -> Iterator[Member]:
    """The streams in a file, in order; each must be read before the next one is asked for.

    Parameters:
        file: seekable; read from its beginning.
        limit: bytes in all that may come out of it.

    Raises DamagedArchive or UnusableArchive.
    """
    file.seek(0)
    start = file.read(4)
    file.seek(0)
    budget = _Budget(limit)
    if start in ZIP:
        yield from _zipped(file, budget)
    elif start[:2] == GZIP:
        with gzip.GzipFile(fileobj=file, mode="rb") as stream:
            yield Member(stream, 1, 1, budget)  # type: ignore[arg-type]
    else:
        yield Member(file, 1, 1, budget)


def _zipped(file: BinaryIO, budget: _Budget) -> Iterator[Member]:
    try:
        archive = zipfile.ZipFile(file)
    except (*_BROKEN, ValueError, OSError) as error:
        raise DamagedArchive(problem=_problem(error)) from error
    with archive:
        found = [info for info in archive.infolist() if not info.is_dir()]
        if not found:
            raise UnusableArchive(problem="it holds no file")
        for number, info in enumerate(found, 1):
            if info.flag_bits & 1:
                raise UnusableArchive(problem=f"member {number} is encrypted")
            try:
                stream = archive.open(info)
            except NotImplementedError as error:
                raise UnusableArchive(problem=f"member {number} is compressed in an unknown way") from error
            except (*_BROKEN, ValueError) as error:
                raise DamagedArchive(problem=f"member {number}: {_problem(error)}") from error
            with stream:
                yield Member(stream, number, len(found), budget)  # type: ignore[arg-type]


def _problem(error: Exception) -> str:
    """What is wrong, without the member's name, which these errors quote."""
    text = str(error)
    if "CRC" in text:
        return "its checksum is wrong"
    if isinstance(error, EOFError):
        return "it ends too early"
    return "it is cut off, or no zip at all" if isinstance(error, zipfile.BadZipFile) else "its bytes make no sense"
