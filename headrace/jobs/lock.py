"""One process of a machine at a time sends for a job; the others follow, and take over if it dies."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

LOOK_SECONDS = 0.2


@contextmanager
def sender_lock(folder: Path, name: str, leave: threading.Event, waiting: Callable[[], None]) -> Iterator[bool]:
    """Whether this process may send; the kernel frees the lock at SIGKILL.

    Parameters:
        folder: for the lock file; created if it is missing.
        name: of the job, with the prefix of its topics.
        leave: gives up waiting.
        waiting: called once if another process has the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / f"{quote(name, safe='')}.sending", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        held = _try(handle)
        if not held:
            waiting()
        while not held and not leave.wait(LOOK_SECONDS):
            held = _try(handle)
        yield held
    finally:
        os.close(handle)


def _try(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
