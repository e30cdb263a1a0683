"""The catalogue: every topic with its key, schema, retention and size limit.

Who writes and who reads a topic is not written here: it follows from the `reads` and `writes` of the stages. Names are
without the prefix (`headrace.` by default), which is a setting and is added where Kafka is spoken to.
Source: design section 3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from headrace import events

MEBIBYTE = 1024 * 1024
# Kafka's limit is for a whole batch, and batches of 4 MB are the fastest; sources write both topics with one producer.
LARGEST_BATCH = 4 * MEBIBYTE + 64 * 1024


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: `values` are the event types of an Avro topic, none for chunk frames or original bytes.

    A topic of records has `schemas`, the fingerprints that its records may have, beside the events among them.
    `key` describes the key's parts; `item` says where an item's name comes from: the key's last part, or the message's
    own coordinates. `keyed` topics never change their partition count while they hold data. `retention_bytes` is per
    partition. `index` is the topic whose events list the items of this one. The framing `foreign` is for a topic of
    somebody else's, which is not in the catalogue: its name has no prefix, its keys and values are bytes to us.
    """

    name: str
    purpose: str
    key: str
    values: tuple[type[events.Event], ...] = ()
    framing: Literal["avro", "frames", "original", "records", "foreign"] = "avro"
    cleanup: Literal["delete", "compact", "compact,delete"] = "delete"
    retention: timedelta | None = None
    retention_bytes: int | None = None
    max_message_bytes: int = MEBIBYTE + 64 * 1024
    item: Literal["key", "offset"] = "key"
    append_time: bool = True
    index: Topic | None = None
    schemas: tuple[bytes, ...] = ()

    def name_on(self, prefix: str) -> str:
        """Its name on a Kafka where our topics begin with `prefix`."""
        return self.name if self.framing == "foreign" else prefix + self.name


FILES = Topic(
    "files",
    purpose="what each source says of each version of its files: identity, progress, announcement",
    key="path id / file id",
    values=(events.FileEvent,),
    cleanup="compact,delete",
    retention=timedelta(days=400),
    max_message_bytes=LARGEST_BATCH,
)
CHUNKS = Topic(
    "chunks",
    purpose="the bytes of files, in frames",
    key="path id / file id",
    framing="frames",
    retention=timedelta(days=7),
    max_message_bytes=LARGEST_BATCH,
    index=FILES,
)
CHUNKS_PERSONAL = replace(
    CHUNKS,
    name="chunks-personal",
    purpose="the bytes of files that hold personal data, in frames",
    retention=timedelta(days=2),
)


def said_of(topic: Topic) -> str | None:
    """How an event of a file, and its id, name the topic of its frames: the ordinary one is not named."""
    return None if topic == CHUNKS else topic.name


CHUNK_TOPICS = {topic.name: topic for topic in (CHUNKS, CHUNKS_PERSONAL)}
"""Where the frames of files are, by name: those of a version are all in one of them, and its id says so."""
UPLOAD_ACKS = Topic(
    "upload-acks",
    purpose="receipts: what became of each item, and where it is",
    key="first part of the input's key / group / item",
    values=(events.UploadAck,),
    cleanup="compact,delete",
    retention=timedelta(days=400),
)
JOBS = Topic(
    "jobs",
    purpose="what operators want of jobs, what the ledger has seen of them, and how far stages are with their items",
    key="job / command, job / books, job / progress / group / item",
    values=(events.Command, events.Job, events.Progress),
    cleanup="compact",
)
DEAD_LETTERS = Topic(
    "dead-letters",
    purpose="messages that could not be handled, with their bytes, coordinates and reason",
    key="as the original",
    framing="original",
    retention=timedelta(days=30),
    max_message_bytes=2 * LARGEST_BATCH,
    item="offset",
)

SPINE = (CHUNKS, CHUNKS_PERSONAL, FILES, UPLOAD_ACKS, JOBS, DEAD_LETTERS)
