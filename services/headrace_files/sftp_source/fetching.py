"""Fetching one file: under a temporary name, resumed only where the remote file is surely the same, never guessed at.

Bytes are appended in order and nothing else: there is no way to a hole. What was recorded at the start (size, time, the
first and last block) must still be true when it goes on and when it ends. Source: reference art 1.6, 4.2 R1.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush
from pathlib import Path

import msgspec

from headrace_files.sftp_source.errors import NotAFile, RemoteChanged, RemoteEmpty, SpoolFull
from headrace_files.sftp_source.protocol import Attributes, Reader

BLOCK = 64 * 1024
"""Bytes of a block that stands for its part of the file."""
REQUEST = 256 * 1024 - 1024
"""Bytes to ask for at once: what fits into a message of OpenSSH's."""
SMALLEST_REQUEST = 4 * 1024
SYNC_EVERY = 32 * 1024 * 1024
"""Bytes that are fetched again at most after a death."""

Progress = Callable[[int, int], None]


class Record(msgspec.Struct, frozen=True):
    """What is remembered beside an unfinished file. `done` bytes are on disk for sure."""

    server: str
    path: str
    size: int
    mtime: int
    head: str
    tail: str
    done: int = 0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file that is here, whole: where, and the attributes that it had on the server all the time."""

    place: Path
    attributes: Attributes
    resumed_at: int


class Fetch:
    """Fetches one remote file into `folder`, as often as it takes.

    Parameters:
        server: user, host and port: whose file it is.
        outstanding: read requests under way.
        progress: told bytes done and in all; what it raises stops the fetch, to be gone on with later.
    """

    def __init__(self, folder: Path, server: str, path: str, outstanding: int, progress: Progress) -> None:
        name = hashlib.blake2b(f"{server}\0{path}".encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        self._part = folder / f"{name}.part"
        self._record = folder / f"{name}.json"
        self._folder = folder
        self._server = server
        self._path = path
        self._outstanding = outstanding
        self._progress = progress
        self._request = REQUEST
        self.moved = 0
        """Bytes that came through since it was made."""

    def look(self, reader: Reader) -> Attributes:
        """What the server says of the file.

        Raises RemoteMissing, RemoteRefused, NotAFile, RemoteEmpty.
        """
        found = reader.stat(self._path)
        if not found.regular:
            raise NotAFile(path=self._path)
        if found.size == 0:
            raise RemoteEmpty(path=self._path)
        return found

    def run(self, reader: Reader, wanted: Attributes) -> Fetched:
        """Fetch the version with these attributes.

        Raises RemoteChanged if it is another one before it is here, SpoolFull, ConnectionLost, RemoteRefused.
        """
        handle = reader.open(self._path)
        try:
            self._see_unchanged(reader.fstat(handle, self._path), wanted, "before it began")
            head, tail = self._blocks(reader, handle, wanted.size)
            record = Record(self._server, self._path, wanted.size, wanted.mtime, head, tail)
            start = self._start(reader, handle, record)
            try:
                self._copy(reader, handle, record, start)
            except OSError as error:
                raise SpoolFull(folder=self._folder, problem=error.strerror or str(error)) from error
            self._see_unchanged(reader.fstat(handle, self._path), wanted, "while it was read")
            if self._blocks(reader, handle, wanted.size) != (head, tail):
                raise RemoteChanged(path=self._path, problem="its first or last block is another one now")
        except RemoteChanged:
            self.forget()
            raise
        reader.close(handle)
        self._see_unchanged(reader.stat(self._path), wanted, "when it was read")
        if (_digest_of(self._part, 0, BLOCK), _digest_of(self._part, max(0, wanted.size - BLOCK), BLOCK)) != (
            head,
            tail,
        ):
            self.forget()
            raise RemoteChanged(path=self._path, problem="what came is not what stands there")
        # So that the version has the same name whoever fetches it, and whenever.
        os.utime(self._part, (wanted.mtime, wanted.mtime))
        return Fetched(self._part, wanted, start)

    def forget(self) -> None:
        """Remove what was fetched."""
        self._record.unlink(missing_ok=True)
        self._part.unlink(missing_ok=True)

    def cut(self, offset: int) -> None:
        """Fetch again what comes from byte `offset` on; what is not here yet is not waited for."""
        known = self._remembered()
        if known is None or not offset:
            self.forget()
        elif known.done > offset:
            self._remember(msgspec.structs.replace(known, done=offset))

    def _see_unchanged(self, found: Attributes, wanted: Attributes, when: str) -> None:
        if (found.size, found.mtime) != (wanted.size, wanted.mtime):
            problem = f"{wanted.size} bytes were there, {found.size} are {when}"
            if found.size == wanted.size:
                problem = f"it has another time {when}"
            self.forget()
            raise RemoteChanged(path=self._path, problem=problem)

    def _blocks(self, reader: Reader, handle: bytes, size: int) -> tuple[str, str]:
        head = reader.read(handle, 0, min(BLOCK, size), self._path)
        tail = reader.read(handle, max(0, size - BLOCK), min(BLOCK, size), self._path)
        if len(head) != min(BLOCK, size) or len(tail) != len(head):
            raise RemoteChanged(path=self._path, problem=f"it is shorter than the {size} bytes that it should have")
        return _digest(head), _digest(tail)

    def _start(self, reader: Reader, handle: bytes, record: Record) -> int:
        """From which byte to go on: 0, unless what is here is surely the beginning of that very version."""
        known = self._remembered()
        if known is not None and msgspec.structs.replace(known, done=0) == record and self._part.exists():
            done = min(known.done, self._part.stat().st_size, record.size)
            last = max(0, done - BLOCK)
            theirs = _digest(reader.read(handle, last, done - last, self._path))
            if done and _digest_of(self._part, last, done - last) == theirs:
                return done
        self.forget()
        self._remember(record)
        return 0

    def _remembered(self) -> Record | None:
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        except (OSError, msgspec.DecodeError):
            return None

    def _remember(self, record: Record) -> None:
        new = self._record.with_suffix(".new")
        try:
            new.write_bytes(msgspec.json.encode(record))
            new.replace(self._record)
        except OSError as error:
            raise SpoolFull(folder=self._folder, problem=error.strerror or str(error)) from error

    def _copy(self, reader: Reader, handle: bytes, record: Record, start: int) -> None:
        """Bring the rest and append it; whatever ends that, how far it came is remembered."""
        written = synced = start
        with self._part.open("ab" if start else "wb", buffering=0) as out:
            out.truncate(start)
            try:
                for piece in self._pieces(reader, handle, start, record.size):
                    _write(out.fileno(), piece)
                    written += len(piece)
                    self.moved += len(piece)
                    if written - synced >= SYNC_EVERY:
                        self._keep(out.fileno(), record, written)
                        synced = written
                    self._progress(written, record.size)
            finally:
                self._keep(out.fileno(), record, written)

    def _keep(self, handle: int, record: Record, done: int) -> None:
        os.fdatasync(handle)
        self._remember(msgspec.structs.replace(record, done=done))

    def _pieces(self, reader: Reader, handle: bytes, start: int, size: int) -> Iterator[memoryview]:
        """The bytes from `start`, in order, with a bounded number of requests under way."""
        under_way: dict[int, tuple[int, int]] = {}
        early: dict[int, memoryview] = {}
        again: list[tuple[int, int]] = []
        asked = given = start
        while given < size:
            while again or asked < size:
                # What comes next may always be asked for, or answers that came early would fill the window for ever.
                if len(under_way) + len(early) >= self._outstanding and not (again and again[0][0] == given):
                    break
                if again:
                    offset, length = heappop(again)
                    if length > self._request:
                        heappush(again, (offset + self._request, length - self._request))
                        length = self._request
                else:
                    offset, length = asked, min(self._request, size - asked)
                    asked += length
                under_way[reader.request(handle, offset, length)] = (offset, length)
            answer = reader.answer(self._path)
            offset, length = under_way.pop(answer.request, (-1, 0))
            data = answer.data
            if offset < 0 or len(data) > length:
                raise RemoteChanged(path=self._path, problem="the server answers what nobody asked")
            if not data:
                raise RemoteChanged(path=self._path, problem=f"it ends at byte {offset} of {size}")
            if len(data) < length:
                # It gives less at a time than we ask for: ask for the rest, and for less from now on.
                heappush(again, (offset + len(data), length - len(data)))
                self._request = max(SMALLEST_REQUEST, min(self._request, len(data)))
            early[offset] = data
            while (piece := early.pop(given, None)) is not None:
                given += len(piece)
                yield piece


def _write(handle: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(handle, piece) :]


def _digest(block: bytes) -> str:
    return hashlib.sha256(block).hexdigest()


def _digest_of(place: Path, offset: int, length: int) -> str:
    with place.open("rb") as file:
        file.seek(offset)
        return _digest(file.read(length))
