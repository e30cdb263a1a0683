"""Chunk messages of OpenMSIStream, written by hand from the description of the layout, not by our own encoder."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgpack
from confluent_kafka.admin import NewTopic

from headrace.kafka.clients import Cluster
from headrace.topics import Topic
from headrace_files.openmsi.topics import foreign
from tests.support.feeding import Feeder


@dataclass(frozen=True)
class TheirFile:
    """A file as their uploader cuts it."""

    name: str
    content: bytes
    folder: str = ""
    chunk: int = 4096
    mtime: float | None = 1_700_000_000.25
    suffix: str = ""

    @property
    def total(self) -> int:
        return -(-len(self.content) // self.chunk)

    @property
    def path(self) -> str:
        stem, dot, extension = self.name.rpartition(".")
        name = f"{stem}{self.suffix}{dot}{extension}" if dot else self.name + self.suffix
        return f"{self.folder}/{name}" if self.folder else name

    def key(self, index: int) -> bytes:
        return f"{self.folder.replace('/', '_')}_{self.name}_chunk_{index}_of_{self.total}".encode()

    def value(self, index: int) -> bytes:
        """Chunk `index` from 1: 10 elements, 9 without an mtime. Source: reference filestream 2.1."""
        offset = (index - 1) * self.chunk
        data = self.content[offset : offset + self.chunk]
        fields = [
            self.name, hashlib.sha512(self.content).digest(), hashlib.sha512(data).digest(), offset, index, self.total,
            self.folder, self.suffix, data,
        ]  # fmt: skip
        return bytes(msgpack.packb(fields if self.mtime is None else [*fields, self.mtime], use_bin_type=True))

    def messages(self) -> list[tuple[bytes, bytes]]:
        """Key and value of every chunk."""
        return [(self.key(index), self.value(index)) for index in range(1, self.total + 1)]


def their_topic(cluster: Cluster, partitions: int = 3) -> Topic:
    """A topic of theirs; named after the test, so that it is deleted with its other topics."""
    topic = foreign(f"{cluster.settings.prefix}openmsi")
    admin = cluster.admin()  # kept until the answer is there, which its end would cancel
    admin.create_topics([NewTopic(topic.name, partitions)])[topic.name].result(20)
    return topic


def send(feeder: Feeder, topic: Topic, *files: TheirFile, partitions: int = 3) -> None:
    """Put every chunk onto the topic, spread over the partitions as their keys would."""
    for file in files:
        for number, (key, value) in enumerate(file.messages()):
            feeder.raw(topic, value, key, number % partitions)
    feeder.flush()
