"""Static membership: a stable `group.instance.id` for each process of a group on this machine.

The id is the host, a mark of the folder, and the lowest slot whose lock is free. The kernel frees the lock at SIGKILL,
so a process that starts again at once gets its predecessor's partitions back without waiting for the session to end; a
paused process keeps it. Source: design section 4, groups.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
from pathlib import Path
from types import TracebackType

from headrace.errors import ConfigError

MOST_SLOTS = 256


class NoFreeSlot(ConfigError):
    """All {slots} slots of the group {group} are taken under {folder}. Stop a copy, or give each its own slot."""

    code = "no-free-slot"


class Slot:
    """The lowest free slot of `group` under `folder`, held until `release` or the end of the process.

    Raises NoFreeSlot if all are taken.
    """

    def __init__(self, folder: Path, group: str, number: int | None = None) -> None:
        place = folder / "slots" / group
        place.mkdir(parents=True, exist_ok=True)
        for candidate in range(MOST_SLOTS) if number is None else (number,):
            handle = os.open(place / str(candidate), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            self._handle = handle
            self.number = candidate
            break
        else:
            raise NoFreeSlot(slots=MOST_SLOTS if number is None else 1, group=group, folder=place)
        # The folder is part of the name: the locks of another one say nothing about ours.
        mark = hashlib.blake2b(os.fsencode(place.resolve()), digest_size=4).hexdigest()
        self.instance = f"{platform.node()}-{mark}-{self.number}"

    def release(self) -> None:
        """Give the slot back."""
        os.close(self._handle)

    def __enter__(self) -> Slot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
