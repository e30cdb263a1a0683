"""Which files an upload sends, and what they are called on the log."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace_files.sending.errors import NothingToSend
from headrace_files.sending.snapshot import printable


@dataclass(frozen=True, slots=True)
class Item:
    """A file: where it is, its name on the log, its size in bytes when it was looked at."""

    location: bytes
    path: bytes
    size: int


def items(files: Sequence[Path], root: Path | None) -> list[Item]:
    """The files to send, checked before anything is sent.

    Parameters:
        root: names are relative to this folder; None: the name without its folders.

    Raises NothingToSend if one is missing, no regular file, outside `root`, or two would have the same name.
    """
    found: dict[bytes, Item] = {}
    for file in files:
        location = os.path.abspath(os.fsencode(file))  # noqa: PTH100 - in bytes
        name = printable(location)
        try:
            status = os.stat(location)  # noqa: PTH116 - in bytes
        except OSError as error:
            raise NothingToSend(path=name, problem=error.strerror) from error
        if stat.S_ISDIR(status.st_mode):
            raise NothingToSend(path=name, problem="it is a folder; use: headrace watch --once")
        if not stat.S_ISREG(status.st_mode):
            raise NothingToSend(path=name, problem="it is no regular file")
        path = name_of(location, None if root is None else os.path.abspath(os.fsencode(root)))  # noqa: PTH100
        if path in found and found[path].location != location:
            raise NothingToSend(
                path=name, problem=f"{printable(found[path].location)} would have the same name; give --root"
            )
        found[path] = Item(location, path, status.st_size)
    return list(found.values())


def name_of(location: bytes, root: bytes | None) -> bytes:
    """The name on the log of the file at the absolute path `location`.

    Raises NothingToSend if it is not below `root`.
    """
    if root is None:
        return location.rpartition(b"/")[2]
    base = root.rstrip(b"/") + b"/"
    if not location.startswith(base):
        raise NothingToSend(path=printable(location), problem=f"it is not in the folder {printable(root)}")
    return location[len(base) :]
