"""What a file is at one moment, and how it is opened without being led astray.

A snapshot is taken before and after a file is read: if its content's marks differ, the file changed under the reader.
Source: design section 3, chunk protocol.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from headrace import keys
from headrace.topics import CHUNKS, Topic, said_of


class NotRegular(OSError):
    """It is no regular file: a folder, a device, a socket, a pipe."""


class OutsideRoot(OSError):
    """It is a symbolic link that leads out of the folder."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Marks of a file: `size` in bytes, times in nanoseconds since the epoch, `mode` the permission bits."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    mode: int

    @classmethod
    def of(cls, status: os.stat_result, *, inodes: bool = True) -> Snapshot:
        """The marks in `status`; without `inodes` for file systems that number their files anew at each mount."""
        # Avro knows signed 64-bit numbers only, some file systems use all 64 bits.
        inode = status.st_ino - (1 << 64) if status.st_ino >= 1 << 63 else status.st_ino
        return cls(
            inode=inode if inodes else 0,
            size=status.st_size,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            mode=stat.S_IMODE(status.st_mode),
        )

    def same_content(self, other: Snapshot) -> bool:
        """Whether both are the same version. ctime is no sign: chmod and rename change it, and no byte."""
        return (self.inode, self.size, self.mtime_ns) == (other.inode, other.size, other.mtime_ns)

    def file_id(self, source: str, path: bytes, attempt: int, topic: Topic = CHUNKS) -> bytes:
        """The id of this version of `path`, sent to `topic`. Source: design section 3."""
        return keys.file_id(source, path, self.inode, self.size, self.mtime_ns, attempt, said_of(topic))

    @property
    def mark(self) -> int:
        """A number that stands for this version of a file in tables of many."""
        return hash((self.inode, self.size, self.mtime_ns))


def open_file(location: bytes, root: bytes | None) -> int:
    """A descriptor for reading `location`.

    Parameters:
        root: a symbolic link may lead to a file inside this folder; None: it may lead anywhere.

    Raises NotRegular, OutsideRoot, or another OSError. Never waits for the other end of a pipe.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    try:
        handle = os.open(location, flags | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        handle = os.open(inside(location, root), flags | (os.O_NOFOLLOW if root is not None else 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotRegular(errno.EINVAL, "not a regular file", location)
    return handle


def inside(location: bytes, root: bytes | None) -> bytes:
    """Where the symbolic link `location` leads. Raises OutsideRoot if that is not inside `root`."""
    target = os.path.realpath(location)
    if root is not None:
        base = os.path.realpath(root)
        if os.path.commonpath((base, target)) != base:
            raise OutsideRoot(errno.ELOOP, "the link leads out of the folder", location)
    return target


def printable(path: bytes) -> str:
    """`path` for people: what is no text, and line breaks, are escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
