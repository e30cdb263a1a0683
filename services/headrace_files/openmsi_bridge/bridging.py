"""Which frames a chunk becomes. Pure: a chunk and what is known of its file go in, frames come out."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from headrace import keys
from headrace.chunks.frames import FRAME_OVERHEAD, Close, Data, Frame, Open, Whole
from headrace.errors import PermanentError
from headrace.keys import Key
from headrace.topics import CHUNKS
from headrace_files.openmsi.layout import Chunk

ALGORITHM = "sha512"
FILES_REMEMBERED = 10_000
FORGOTTEN_AFTER_MS = 60_000
_MICROSECONDS, _NANOSECONDS = 1_000_000, 1000


class ChunkTooLarge(PermanentError):
    """A chunk of {size} bytes does not fit a message of headrace.chunks, which takes {limit}; send smaller chunks."""

    code = "chunk-too-large"


@dataclass(frozen=True, slots=True)
class Identity:
    """What a file is called on the log: the same for each of its chunks, whoever meets them."""

    path_id: bytes
    file: bytes

    @classmethod
    def of(cls, source: str, chunk: Chunk) -> Identity:
        """The identity of a chunk's file: a version is one content, cut in one way."""
        total = chunk.total.to_bytes(8, "big")
        return cls(keys.path_id(source, chunk.path), keys.content_id(source, chunk.path, chunk.file_hash, total))

    @property
    def key(self) -> Key:
        """The key of its frames."""
        return (self.path_id.hex(), self.file.hex())

    def item(self, index: int) -> str:
        """The name of one of its chunks in the bridge's receipts."""
        return f"{self.file.hex()}:{index}"


@dataclass(frozen=True, slots=True)
class Marks:
    """What every file of this bridge has: its sender, and the dataset it belongs to."""

    source: str
    dataset: str | None = None


def check_size(chunk: Chunk) -> None:
    """See that a chunk fits a message of ours. Raises ChunkTooLarge."""
    if len(chunk.data) + FRAME_OVERHEAD > CHUNKS.max_message_bytes:
        raise ChunkTooLarge(size=len(chunk.data), limit=CHUNKS.max_message_bytes - FRAME_OVERHEAD)


def frames_of(chunk: Chunk, marks: Marks, time_ms: int, *, opened: bool) -> list[Frame]:
    """The frames that a chunk becomes; the first one opens the file, unless it is `opened` already.

    Parameters:
        time_ms: when the message came, in milliseconds since the epoch: the mtime of a file whose sender tells none.
    """
    mtime_ns = mtime_of(chunk, time_ms)
    data = memoryview(chunk.data)
    if chunk.total == 1:
        return [
            Whole(
                v=1, source=marks.source, path=chunk.path, chunk=chunk.regular, mtime_ns=mtime_ns, attempt=0,
                size=chunk.size, dataset=marks.dataset, alg=ALGORITHM, hash=chunk.file_hash, b=data,
            )
        ]  # fmt: skip
    frames: list[Frame] = []
    if not opened:
        frames.append(
            Open(
                v=1, source=marks.source, path=chunk.path, chunk=chunk.regular, mtime_ns=mtime_ns, attempt=0,
                dataset=marks.dataset,
            )
        )  # fmt: skip
    frames.append(Data(v=1, i=chunk.index - 1, off=chunk.offset, b=data))
    if chunk.last:
        frames.append(Close(v=1, n=chunk.total, size=chunk.size, alg=ALGORITHM, hash=chunk.file_hash))
    return frames


def mtime_of(chunk: Chunk, time_ms: int) -> int:
    """The file's mtime in nanoseconds since the epoch; a floating-point number of seconds is good for microseconds."""
    if chunk.mtime is None:
        return time_ms * _MICROSECONDS
    return round(chunk.mtime * _MICROSECONDS) * _NANOSECONDS


class Opened:
    """The files that were opened from one partition lately, and the offset of their `open` frame once it is known.

    A file whose chunks have been silent for a minute is forgotten, so that it is opened anew if it is sent again, as
    somebody does whose file a receiver gave up. A chunk that comes twice, as retries leave it, comes sooner.
    """

    def __init__(self, most: int = FILES_REMEMBERED) -> None:
        self._files: OrderedDict[bytes, tuple[int, int | None]] = OrderedDict()
        self._most = most

    def meet(self, file: bytes, time_ms: int) -> bool:
        """A chunk of the file came; whether the file is open already.

        Parameters:
            time_ms: when the message came, in milliseconds since the epoch.
        """
        known = self._files.pop(file, None)
        open_already = known is not None and abs(time_ms - known[0]) <= FORGOTTEN_AFTER_MS
        self._files[file] = (time_ms, known[1] if known is not None and open_already else None)
        if len(self._files) > self._most:
            self._files.popitem(last=False)
        return open_already

    def known(self, file: bytes, offset: int) -> None:
        """Its `open` frame is on the log."""
        if file in self._files:
            self._files[file] = (self._files[file][0], offset)

    def offset(self, file: bytes) -> int | None:
        """Where its `open` frame is, if that is known."""
        return self._files.get(file, (0, None))[1]
