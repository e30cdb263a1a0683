"""The instrument of the demonstration: files of mixed sizes and awkward names that keep arriving in a folder."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KILOBYTE, MEGABYTE = 1000, 1_000_000
BLOCK = 256 * 1024

AWKWARD_NAMES = (
    b"name with spaces.dat",
    b"tab\there.dat",
    b"back\\slash.dat",
    b"semi;colon.dat",
    b"line\nbreak.dat",
    b"not-utf8-\xff\xfe.dat",
    "übergröße-測定.dat".encode(),
    b"empty.dat",
)


@dataclass(frozen=True)
class Planned:
    """A file to make: path relative to the folder, and bytes."""

    path: bytes
    size: int


def plan(seed: int = 1) -> list[Planned]:
    """About 300 MB in about 500 files, the same ones for the same seed."""
    choose = random.Random(seed)  # noqa: S311 - material for a demonstration, not a secret
    files = [Planned(b"awkward/" + name, 0 if name.startswith(b"empty") else 5 * KILOBYTE) for name in AWKWARD_NAMES]
    files += [
        Planned(f"shots/run-{number % 12:02}/shot-{number:04}.csv".encode(), choose.randint(1, 100) * KILOBYTE)
        for number in range(450)
    ]
    files += [
        Planned(f"images/frame-{number:03}.raw".encode(), choose.randint(1, 5) * MEGABYTE) for number in range(40)
    ]
    files += [Planned(f"traces/scope-{number}.bin".encode(), 50 * MEGABYTE) for number in range(3)]
    choose.shuffle(files)
    return files


class Instrument:
    """Writes planned files into a folder, spread over `seconds`, in a thread of its own."""

    def __init__(self, folder: Path, files: list[Planned], seconds: float) -> None:
        self._folder = folder
        self._files = files
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="instrument", daemon=True)
        self.made = 0
        self.bytes = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()
        self._thread.join()

    @property
    def running(self) -> bool:
        """Whether it still writes, or means to."""
        return self._thread.is_alive()

    @property
    def finished(self) -> bool:
        """Whether all files are written."""
        return self.made == len(self._files)

    def _work(self) -> None:
        began = time.monotonic()
        for number, file in enumerate(self._files):
            due = began + self._seconds * number / len(self._files)
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            self._write(file)
            self.made += 1
            self.bytes += file.size

    def _write(self, file: Planned) -> None:
        place = self._folder / os.fsdecode(file.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as out:
            out.writelines(_content(file))


def _content(file: Planned) -> Iterator[bytes]:
    source = random.Random(file.path)  # noqa: S311 - material for a demonstration, not a secret
    left = file.size
    while left > 0:
        yield source.randbytes(min(BLOCK, left))
        left -= BLOCK
