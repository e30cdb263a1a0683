"""One process at a time sends as one source: two would take each other's unfinished files for abandoned ones."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from headrace_files.sending.errors import SourceTaken


class SourceLock:
    """Held until `release` or the end of the process; the kernel frees it at SIGKILL.

    Watchers hold it alone, one-off uploads share a second one, so that a watcher knows that some are under way.
    """

    def __init__(self, state: Path, source: str, prefix: str) -> None:
        folder = state / "sources"
        folder.mkdir(parents=True, exist_ok=True)
        self._source = source
        self._place = folder / quote(f"{prefix}{source}", safe="")
        self._handles: list[int] = []

    def watch(self) -> SourceLock:
        """Raises SourceTaken if another watcher of this source runs on this machine."""
        if not self._lock("watch", fcntl.LOCK_EX):
            raise SourceTaken(source=self._source)
        return self

    def upload(self) -> SourceLock:
        """Let watchers know that a one-off upload is under way."""
        self._lock("upload", fcntl.LOCK_SH)
        return self

    def uploads_run(self) -> bool:
        """Whether one-off uploads of this source are under way on this machine."""
        return not self._lock("upload", fcntl.LOCK_EX, keep=False)

    def release(self) -> None:
        """Give everything back."""
        while self._handles:
            os.close(self._handles.pop())

    def __enter__(self) -> SourceLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock(self, use: str, how: int, *, keep: bool = True) -> bool:
        handle = os.open(f"{self._place}.{use}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, how | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            return False
        if keep:
            self._handles.append(handle)
        else:
            os.close(handle)
        return True
