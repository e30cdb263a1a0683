"""Puts files onto the chunks topic frame by frame, as a test wants them: in order or not, twice, damaged, late."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import dataclass, field

from headrace.chunks import frames
from headrace.codec import avro
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key, file_id, partition_of, path_id
from headrace.topics import CHUNKS, FILES, Topic, said_of

_inodes = itertools.count(1)


@dataclass
class FedFile:
    """One version of a file, ready to be sent frame by frame."""

    path: bytes
    content: bytes
    source: str = "test"
    chunk: int = 4096
    mtime_ns: int = 1_700_000_000_000_000_000
    ctime_ns: int | None = None
    attempt: int = 0
    inode: int = field(default_factory=lambda: next(_inodes))
    dataset: str | None = None
    job: str | None = None
    topic: Topic = CHUNKS

    @property
    def path_id(self) -> bytes:
        return path_id(self.source, self.path)

    @property
    def file(self) -> bytes:
        marks = (self.inode, len(self.content), self.mtime_ns, self.attempt)
        return file_id(self.source, self.path, *marks, said_of(self.topic))

    @property
    def item(self) -> str:
        return self.file.hex()

    @property
    def key(self) -> bytes:
        return encode_key((self.path_id.hex(), self.file.hex()))

    def open(self) -> bytes:
        return frames.encode(
            frames.Open(
                v=1, source=self.source, path=self.path, chunk=self.chunk, mtime_ns=self.mtime_ns,
                ctime_ns=self.ctime_ns, attempt=self.attempt, size=len(self.content), mode=0o644,
                dataset=self.dataset, job=self.job,
            )
        )  # fmt: skip

    def data(self) -> list[bytes]:
        return [
            frames.encode(
                frames.Data(v=1, i=index, off=offset, b=memoryview(self.content)[offset : offset + self.chunk])
            )
            for index, offset in enumerate(range(0, len(self.content), self.chunk))
        ]

    def close(self) -> bytes:
        count = -(-len(self.content) // self.chunk)
        digest = hashlib.sha256(self.content).digest()
        return frames.encode(frames.Close(v=1, n=count, size=len(self.content), alg="sha256", hash=digest))

    def abort(self, reason: str = "changed") -> bytes:
        return frames.encode(frames.Close(v=1, abort=reason))

    def whole(self) -> bytes:
        return frames.encode(
            frames.Whole(
                v=1, source=self.source, path=self.path, chunk=self.chunk, mtime_ns=self.mtime_ns,
                ctime_ns=self.ctime_ns, attempt=self.attempt, size=len(self.content), mode=0o644,
                dataset=self.dataset, job=self.job, alg="sha256",
                hash=hashlib.sha256(self.content).digest(), b=memoryview(self.content),
            )
        )  # fmt: skip

    def frames(self) -> list[bytes]:
        """All frames in order, as a sender that is never interrupted sends them."""
        return [self.open(), *self.data(), self.close()]

    def event(self, partition: int, first: int, last: int) -> FileEvent:
        """The announcement that its source would write."""
        return FileEvent(
            path_id=self.path_id, file=self.file, source=self.source, path=self.path, state="announced",
            attempt=self.attempt, inode=self.inode, mtime_ns=self.mtime_ns, size=len(self.content),
            acked=len(self.content), alg="sha256", hash=hashlib.sha256(self.content).digest(), partition=partition,
            first=first, last=last, topic=said_of(self.topic), at=self.mtime_ns // 1000,
        )  # fmt: skip


class Feeder:
    """Sends raw frames with the right key and partition."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._producer = cluster.producer()
        self.partitions = cluster.partitions(CHUNKS)
        self.offsets: dict[bytes, list[int]] = {}

    def partition(self, file: FedFile) -> int:
        return partition_of(file.path_id.hex(), self.partitions)

    def send(self, file: FedFile, *values: bytes, headers: list[tuple[str, bytes]] | None = None) -> None:
        """Queue frames of one file."""
        for value in values:
            self.raw(file.topic, value, file.key, self.partition(file), headers, file.file)

    def raw(
        self,
        topic: Topic,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: list[tuple[str, bytes]] | None = None,
        remember: bytes = b"",
    ) -> None:
        """Queue any bytes."""

        def delivered(error: object, message: object) -> None:
            assert error is None, error
            self.offsets.setdefault(remember, []).append(message.offset())  # type: ignore[attr-defined]

        while True:
            try:
                self._producer.produce(
                    self._cluster.topic_name(topic), value, key, partition=partition, headers=headers,
                    on_delivery=delivered,
                )  # fmt: skip
            except BufferError:
                self._producer.poll(0.1)
                continue
            return

    def announce(self, file: FedFile) -> None:
        """Write the FileEvent that says the file is on the log, with the offsets its frames got."""
        self.flush()
        offsets = self.offsets[file.file]
        partition = self.partition(file)
        self.raw(FILES, avro.encode(file.event(partition, min(offsets), max(offsets))), file.key, partition)

    def flush(self) -> None:
        """Wait until everything is on the log."""
        assert self._producer.flush(30) == 0
