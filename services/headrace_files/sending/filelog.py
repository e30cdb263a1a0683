"""What the log says of the files of a source: the last word on each path, in little memory.

200,000 paths take about 30 MB: of a path whose last version is settled only the id, the attempt and the state are kept;
the whole event only where a version was left unfinished.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import IntEnum

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import partition_of
from headrace.topics import CHUNK_TOPICS, FILES, Topic


class Word(IntEnum):
    """The last word on a version; FAILED is a receiver's."""

    SENDING = 0
    ANNOUNCED = 1
    ABORTED = 2
    FAILED = 3


_WORDS = {"sending": Word.SENDING, "announced": Word.ANNOUNCED, "aborted": Word.ABORTED, "expired": Word.ABORTED}


@dataclass(frozen=True, slots=True)
class Entry:
    """The last version of a path that the log knows."""

    file: bytes
    attempt: int
    word: Word


class FileLog:
    """The last event of each path of one source, on `headrace.files` or a topic like it. For one thread only."""

    def __init__(self, source: str, topic: Topic = FILES) -> None:
        self._source = source
        self._topic = topic
        self._settled: dict[bytes, bytes] = {}
        self._unfinished: dict[bytes, FileEvent] = {}

    def read(self, cluster: Cluster, only: Collection[bytes] | None = None) -> None:
        """Take in all that is on the topic now.

        Parameters:
            only: path ids (16 bytes) that are of interest; None: all.

        Raises MissingTopic or KafkaUnreachable.
        """
        source = self._source.encode()
        starts = None
        keys: set[bytes] | None = None
        if only is not None:
            count = cluster.partitions(self._topic)
            starts = {partition_of(path.hex(), count): 0 for path in only}
            keys = {path.hex().encode() for path in only}
        for batch in read_now(cluster, self._topic, starts=starts):
            for message in batch:
                value = message.value()
                # Most events of a shared topic are of others: to look for the name is far cheaper than to decode.
                if value is None or source not in value:
                    continue
                if keys is not None and (message.key() or b"")[:32] not in keys:
                    continue
                try:
                    event = avro.decode(value, FileEvent)
                except PoisonError:
                    continue
                if event.source == self._source and (event.topic is None or event.topic in CHUNK_TOPICS):
                    self.note(event)

    def note(self, event: FileEvent) -> None:
        """`event` is the last word on its path, unless it closes an older version than the one that is known."""
        if event.state == "aborted":
            known = self.entry(event.path_id)
            if known is not None and known.file != event.file:
                return
        if event.state == "sending":
            self._unfinished[event.path_id] = event
            self._settled.pop(event.path_id, None)
        else:
            self._unfinished.pop(event.path_id, None)
            self._settle(event.path_id, event.file, _WORDS[event.state], event.attempt)

    def fail(self, path: bytes) -> None:
        """A receiver could not do anything with the last version of this path."""
        entry = self.entry(path)
        if entry is not None:
            self._unfinished.pop(path, None)
            self._settle(path, entry.file, Word.FAILED, entry.attempt)

    def entry(self, path: bytes) -> Entry | None:
        """The last version of the path with this id."""
        packed = self._settled.get(path)
        if packed is not None:
            return Entry(packed[:16], int.from_bytes(packed[17:], "big"), Word(packed[16]))
        event = self._unfinished.get(path)
        return None if event is None else Entry(event.file, event.attempt, Word.SENDING)

    def unfinished(self, path: bytes) -> FileEvent | None:
        """The event of a version of this path that was begun and not finished."""
        return self._unfinished.get(path)

    def all_unfinished(self) -> Iterator[FileEvent]:
        """All versions that were begun and not finished."""
        return iter(tuple(self._unfinished.values()))

    def _settle(self, path: bytes, file: bytes, word: Word, attempt: int) -> None:
        self._settled[path] = file + bytes((word,)) + attempt.to_bytes(4, "big")

    def __len__(self) -> int:
        return len(self._settled) + len(self._unfinished)
