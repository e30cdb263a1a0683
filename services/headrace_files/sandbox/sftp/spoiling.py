"""Damaged copies of files, which the server shows instead of the good ones. Source: reference art 5.6."""

from __future__ import annotations

import asyncio
import os
import shutil
import zipfile
from pathlib import Path
from typing import Literal, get_args

from headrace.errors import ConfigError

How = Literal["missing", "empty", "truncated", "crc", "replaced", "two-members", "plain", "growing"]

_PIECES = 20
"""In how many steps a file grows."""


class UnknownDamage(ConfigError):
    """A file cannot be spoiled as {how!r}. Valid: {valid}."""

    code = "unknown-damage"


class NothingToSpoil(ConfigError):
    """The file {path} cannot be spoiled as {how!r}: {problem}."""

    code = "nothing-to-spoil"


def spoil(good: Path, bad: Path, how: str) -> None:
    """Write the damaged copy `bad` of `good`; none for "missing". Its time is that of the good one.

    Parameters:
        how: "truncated" and the first state of "growing" are its first half; "crc" has one bit turned in the middle;
            "replaced" has the same size and other bytes; "two-members" and "plain" are made of a zip's first member.

    Raises UnknownDamage, NothingToSpoil.
    """
    if how not in get_args(How):
        raise UnknownDamage(how=how, valid=", ".join(get_args(How)))
    bad.unlink(missing_ok=True)
    if how == "missing":
        return
    try:
        if how in ("two-members", "plain"):
            _from_member(good, bad, how)
        elif how == "empty":
            bad.touch()
        else:
            _from_bytes(good, bad, how)
        times = good.stat()
    except (OSError, zipfile.BadZipFile, IndexError) as error:
        raise NothingToSpoil(path=good.name, how=how, problem=error) from error
    os.utime(bad, ns=(times.st_atime_ns, times.st_mtime_ns))


async def grow(good: Path, bad: Path, seconds: float) -> None:
    """Append the second half of `good` to the copy that has the first, spread over so many seconds."""
    size = good.stat().st_size
    piece = max(1, (size - size // 2) // _PIECES)
    with good.open("rb") as source, bad.open("ab", buffering=0) as out:
        source.seek(size // 2)
        while data := source.read(piece):
            await asyncio.sleep(seconds / _PIECES)
            out.write(data)


def _from_bytes(good: Path, bad: Path, how: str) -> None:
    shutil.copyfile(good, bad)
    size = good.stat().st_size
    with bad.open("r+b") as file:
        if how in ("truncated", "growing"):
            file.truncate(size // 2)
        elif how == "crc":
            file.seek(size // 2)
            turned = file.read(1)[0] ^ 1
            file.seek(size // 2)
            file.write(bytes((turned,)))
        else:
            file.seek(0)
            while data := file.read(1 << 20):
                file.seek(-len(data), os.SEEK_CUR)
                file.write(bytes(byte ^ 0x55 for byte in data))


def _from_member(good: Path, bad: Path, how: str) -> None:
    with zipfile.ZipFile(good) as archive:
        member = archive.infolist()[0]
        if how == "plain":
            with archive.open(member) as source, bad.open("wb") as out:
                shutil.copyfileobj(source, out)
            return
        with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as two:
            for number in (1, 2):
                with archive.open(member) as source, two.open(f"{number}-{Path(member.filename).name}", "w") as target:
                    shutil.copyfileobj(source, target)
