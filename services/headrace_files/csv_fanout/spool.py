"""Files on their way, on local disk: without names, so that nothing is left over when the process dies."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import BinaryIO, cast

from headrace.errors import ConfigError, PermanentError, TransientError


class NoSpool(ConfigError):
    """The spool folder {folder} cannot be used: {problem}. Create it, or set csv_fanout.spool to another one."""

    code = "no-spool"


class SpoolUnwell(TransientError):
    """The disk of the spool folder {folder} is unwell: {problem}; trying again in {retry_after} s."""

    code = "spool-unwell"
    default_retry_after = 2.0


class SpoolBehind(TransientError):
    """The spool is full: {used} of {limit} bytes hold files that are being published; going on when one is done."""

    code = "spool-behind"
    default_retry_after = 0.25
    steady = True


class LargerThanSpool(PermanentError):
    """The file is larger than the whole spool, {limit} bytes; set csv_fanout.spool_size higher, then replay it."""

    code = "larger-than-spool"


class Spool:
    """Gives out files and keeps count of their bytes. The stage's thread only.

    Parameters:
        folder: where they lie; None: the system's temporary folder.
        limit: bytes.

    Raises NoSpool.
    """

    def __init__(self, folder: Path | None, limit: int) -> None:
        self.folder = folder or Path(tempfile.gettempdir())
        self.limit = limit
        self.used = 0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.open().close()
        except OSError as error:
            raise NoSpool(folder=self.folder, problem=error.strerror) from error

    def open(self) -> BinaryIO:
        """A new file, gone when it is closed."""
        return cast("BinaryIO", tempfile.TemporaryFile(dir=self.folder, buffering=0))

    def take(self, size: int, *, anyway: bool) -> None:
        """Count `size` more bytes.

        Parameters:
            anyway: even if there is no room: whoever asks could otherwise never give back what it has.

        Raises LargerThanSpool or SpoolBehind.
        """
        if size > self.limit:
            raise LargerThanSpool(limit=self.limit)
        if self.used + size > self.limit and not anyway:
            raise SpoolBehind(used=self.used, limit=self.limit)
        self.used += size

    def give(self, size: int) -> None:
        """`size` bytes are not needed any more."""
        self.used -= size

    def failure(self, error: OSError) -> SpoolUnwell:
        """What an operating system error means for the service."""
        return SpoolUnwell(folder=self.folder, problem=error.strerror or str(error))
