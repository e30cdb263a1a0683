"""Whether a version that was left unfinished can be gone on with, and from where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from headrace.chunks import frames
from headrace.chunks.frames import DEFAULT_ALGORITHM
from headrace.errors import PoisonError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.stage.contract import Partition
from headrace.topics import CHUNK_TOPICS


@dataclass(frozen=True, slots=True)
class Start:
    """How to begin: from byte `acked` of the version whose open frame is at `first`, in its chunk size; or at 0.

    `abandon` says that the previous version has to be closed first, since it will never be finished.
    """

    acked: int = 0
    first: int | None = None
    chunk: int | None = None
    abandon: bool = False


def choose(previous: FileEvent | None, file: bytes, size: int, partition: int) -> Literal["begin", "abandon", "resume"]:
    """What to do about the version that was left unfinished, now that the file's version is `file`.

    A version is gone on with only if enough is known of it; beginning again sends all of it, which is always right.
    """
    if previous is None or previous.state != "sending":
        return "begin"
    if previous.file != file:
        return "abandon"
    known = previous.first is not None and previous.partition == partition and previous.alg == DEFAULT_ALGORITHM
    return "resume" if known and 0 < previous.acked <= size else "begin"


def start(cluster: Cluster, previous: FileEvent | None, file: bytes, size: int, place: Partition, key: bytes) -> Start:
    """How to begin with the version `file` of `size` bytes, whose frames go to `place`.

    The open frame is read back: if retention has taken it, readers that have not begun could never finish the file.
    """
    choice = choose(previous, file, size, place.number)
    if previous is None or choice == "begin":
        return Start()
    if choice == "abandon":
        return Start(abandon=True)
    chunk = _chunk_of(cluster, place, previous.first or 0, key)
    if chunk is None or (previous.acked % chunk and previous.acked != size):
        return Start()
    return Start(acked=previous.acked, first=previous.first, chunk=chunk)


def _chunk_of(cluster: Cluster, place: Partition, first: int, key: bytes) -> int | None:
    """The chunk size in the open frame at `first`, if it is still there and of this version."""
    topic, number = CHUNK_TOPICS[place.topic], place.number
    for batch in read_now(cluster, topic, starts={number: first}, ends={number: first + 1}):
        for message in batch:
            if message.offset() != first or message.key() != key:
                return None
            try:
                frame = frames.decode(message.value() or b"")
            except PoisonError:
                return None
            return frame.chunk if isinstance(frame, frames.Open) and frame.chunk else None
    return None
