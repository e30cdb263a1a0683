"""Walking a tree in bytes, so that any name survives, without following links out of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from headrace_files.directory_source.filters import OWN_FOLDER
from headrace_files.sending.snapshot import OutsideRoot, inside, printable

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Walk:
    """One pass over a folder and its subfolders. `complete` is false if some folder could not be read."""

    root: bytes
    start: bytes = b""
    complete: bool = True
    told: set[bytes] = field(default_factory=set)

    def files(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """The relative path and the status of each regular file; of a link to one inside the root, the target's."""
        pending = [self.start]
        while pending:
            folder = pending.pop()
            place = self.root + b"/" + folder if folder else self.root
            try:
                with os.scandir(place) as entries:
                    for entry in entries:
                        path = folder + b"/" + entry.name if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            if entry.name != OWN_FOLDER:
                                pending.append(path)
                            continue
                        status = self._status(entry, path)
                        if status is not None:
                            yield path, status
            except (FileNotFoundError, NotADirectoryError):
                if folder == self.start:
                    self.complete = False
            except OSError as error:
                self.complete = False
                self._tell(folder, "folder cannot be read", error.strerror)

    def _status(self, entry: os.DirEntry[bytes], path: bytes) -> os.stat_result | None:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            # Gone since it was listed, or not to be looked at: the next pass tells.
            return None
        if stat.S_ISREG(status.st_mode):
            return status
        if not stat.S_ISLNK(status.st_mode):
            self._tell(path, "not sent", "it is a device, a pipe or a socket")
            return None
        return self._linked(path)

    def _linked(self, path: bytes) -> os.stat_result | None:
        try:
            return linked_status(self.root, path)
        except OutsideRoot as error:
            self._tell(path, "not sent", error.strerror)
        except OSError:
            pass
        return None

    def _tell(self, path: bytes, what: str, why: str | None) -> None:
        if path not in self.told:
            self.told.add(path)
            log.warning(what, path=printable(path), reason=why)


def linked_status(root: bytes, path: bytes) -> os.stat_result | None:
    """The status of the regular file that the symbolic link at `path` leads to, None if it is something else.

    Raises OutsideRoot if it leads out of `root`, another OSError if it leads nowhere.
    """
    status = os.lstat(inside(root + b"/" + path, root))
    return status if stat.S_ISREG(status.st_mode) else None


def look(root: bytes, path: bytes) -> os.stat_result | None:
    """What is at `path` (relative); of a link, its target; None if nothing is, or the link leads out of the root."""
    try:
        status = os.lstat(root + b"/" + path)
        return linked_status(root, path) if stat.S_ISLNK(status.st_mode) else status
    except OSError:
        return None


def look_at_file(root: bytes, path: bytes) -> os.stat_result | None:
    """The same, but None if it is no regular file."""
    status = look(root, path)
    return status if status is not None and stat.S_ISREG(status.st_mode) else None
