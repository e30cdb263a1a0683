"""The oracle: what must have arrived, recomputed from raw messages, and whether the outside world agrees.

It trusts nothing of Headrace: it reads Kafka's bytes with the plain client, unpacks them with msgpack and fastavro by
the schema files, and keeps its own account of ranges and hashes. What it finds wrong it says in words.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import reduce
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Any

import fastavro
import msgpack
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.waiting import wait_until

SCHEMAS = Path(__file__).parents[2] / "schemas"
SINGLE_OBJECT_HEADER = 10


def messages(bootstrap: str, topic: str) -> Iterator[Message]:
    """Every message that is in the topic now, in log order per partition."""
    own = {"group.id": "oracle", "enable.auto.commit": False, "enable.partition.eof": True, "fetch.wait.max.ms": 20}
    consumer = Consumer({"bootstrap.servers": bootstrap, **own})
    try:
        left = set(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        places = [TopicPartition(topic, number) for number in left]
        for place in places:
            place.offset = wait_until(lambda place=place: _beginning(consumer, place), within=30)[0]
        consumer.assign(places)
        while left:
            message = consumer.poll(30)
            assert message is not None, f"{topic} does not answer"
            error = message.error()
            if error is None:
                yield message
            else:
                assert error.code() == KafkaError._PARTITION_EOF, error
                left.discard(message.partition() or 0)
    finally:
        consumer.close()


def _beginning(consumer: Consumer, place: TopicPartition) -> tuple[int]:
    """The first offset of a partition. Raises AssertionError: a broker that has just started may not lead it yet."""
    try:
        first, _ = consumer.get_watermark_offsets(place, timeout=10)
    except KafkaException as error:
        raise AssertionError(error.args[0].str()) from error
    return (first,)


def partition_count(bootstrap: str, topic: str) -> int:
    """How many partitions a topic has."""
    return len(AdminClient({"bootstrap.servers": bootstrap}).list_topics(topic, timeout=10).topics[topic].partitions)


def schema_named(name: str) -> Any:
    """The schema of an event, from its file."""
    return json.loads((SCHEMAS / f"{name}.avsc").read_text())


def avro_records(bootstrap: str, topic: str, schema_name: str) -> Iterator[dict[str, Any]]:
    """Every event of a topic as plain values; what is no such event is left out."""
    schema = fastavro.parse_schema(schema_named(schema_name))
    for message in messages(bootstrap, topic):
        body = BytesIO((message.value() or b"")[SINGLE_OBJECT_HEADER:])
        try:
            yield fastavro.schemaless_reader(body, schema, None)
        except (EOFError, ValueError, IndexError, KeyError, TypeError):
            continue


@dataclass
class Version:
    """One version of a file, as its frames tell."""

    file: str
    spool: Path
    first: tuple[int, int] | None = None
    source: str = ""
    path: bytes = b""
    mtime_ns: int = 0
    ctime_ns: int | None = None
    size: int | None = None
    alg: str = ""
    hash: bytes | None = None
    aborted: str | None = None
    disputed: bool = False
    ranges: dict[int, int] = field(default_factory=dict)

    def write(self, offset: int, data: bytes) -> None:
        """Keep the bytes; the first to come stays, and other bytes in the same place make the version disputed."""
        if not 0 <= offset < 2**40:
            raise ValueError(offset)
        with self.spool.open("r+b" if self.spool.exists() else "w+b") as file:
            if offset in self.ranges:
                file.seek(offset)
                self.disputed |= file.read(len(data)) != data or self.ranges[offset] != len(data)
                return
            file.seek(offset)
            file.write(data)
        self.ranges[offset] = len(data)

    def whole(self) -> bool:
        """Whether every byte is there, and they have the hash that the sender computed."""
        if self.hash is None or self.size is None or self.first is None:
            return False
        reached = 0
        for offset in sorted(self.ranges):
            if offset > reached:
                return False
            reached = max(reached, offset + self.ranges[offset])
        if reached != self.size:
            return False
        content = self.spool.read_bytes() if self.spool.exists() else b""
        return hashlib.new(self.alg, content).digest() == self.hash


@dataclass
class Truth:
    """What is on the log: the versions that are whole, and all others that were begun."""

    whole: dict[str, Version]
    others: dict[str, Version]

    def newest(self, refused: Collection[bytes] = ()) -> dict[bytes, Version]:
        """The version of each path that a folder must hold."""
        paths: dict[bytes, list[Version]] = {}
        for version in self.whole.values():
            if version.path not in refused and not version.disputed:
                paths.setdefault(version.path, []).append(version)
        return {path: reduce(_newer, versions) for path, versions in paths.items()}


def _newer(one: Version, other: Version) -> Version:
    if one.ctime_ns is not None and other.ctime_ns is not None and one.ctime_ns != other.ctime_ns:
        return max(one, other, key=lambda version: version.ctime_ns or 0)
    return max(one, other, key=lambda version: version.first or (0, 0))


def rebuild(bootstrap: str, prefix: str, scratch: Path, topics: Collection[str] = ("chunks",)) -> Truth:
    """Put every version together again from its raw frames, below the folder `scratch`."""
    spools = Path(tempfile.mkdtemp(dir=scratch))
    versions: dict[str, Version] = {}
    for message in chain.from_iterable(messages(bootstrap, prefix + topic) for topic in topics):
        try:
            frame = msgpack.unpackb(message.value() or b"", raw=False, strict_map_key=False)
            file = (message.key() or b"").decode("ascii").split("/")[1]
            kind = frame["k"]
            version = versions.setdefault(file, Version(file, spools / f"{len(versions)}"))
            if kind in ("open", "whole"):
                version.source, version.path, version.mtime_ns = frame["source"], frame["path"], frame["mtime_ns"]
                version.ctime_ns = frame.get("ctime_ns")
                version.first = version.first or (message.partition() or 0, message.offset() or 0)
            if kind == "data":
                version.write(frame["off"], frame["b"])
            if kind == "whole":
                version.write(0, frame["b"])
                version.size, version.alg, version.hash = len(frame["b"]), frame["alg"], frame["hash"]
            if kind == "close" and frame.get("abort") is None:
                version.size, version.alg, version.hash = frame["size"], frame["alg"], frame["hash"]
            elif kind == "close":
                version.aborted = frame["abort"]
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, msgpack.exceptions.UnpackException):
            continue
    whole = {file: version for file, version in versions.items() if version.whole()}
    return Truth(whole, {file: version for file, version in versions.items() if file not in whole})


def files_below(root: Path) -> dict[bytes, os.stat_result]:
    """Every entry below a folder that is no folder, by its name in bytes."""
    return {
        os.fsencode(entry.relative_to(root)): entry.lstat()
        for entry in root.rglob("*")
        if entry.is_symlink() or not entry.is_dir()
    }


def check_folder(
    truth: Truth, root: Path, *, refused: Collection[bytes] = (), partials: Callable[[bytes], bool] = lambda _: False
) -> list[str]:
    """What is wrong with a tree: each path's newest version must be there, byte for byte, and nothing else.

    Parameters:
        refused: paths that must not be there.
        partials: which names below `.headrace` may be left.
    """
    wrong = []
    found = files_below(root)
    wanted = truth.newest(refused)
    for path, version in wanted.items():
        status = found.pop(path, None)
        if status is None:
            wrong.append(f"lost: {path!r} ({version.file})")
            continue
        content = root / os.fsdecode(path)
        if not stat.S_ISREG(status.st_mode):
            wrong.append(f"not a file: {path!r}")
        elif hashlib.new(version.alg, content.read_bytes()).digest() != version.hash:
            wrong.append(f"wrong bytes: {path!r} ({version.file}), {status.st_size} of {version.size}")
        elif status.st_mtime_ns != version.mtime_ns:
            wrong.append(f"wrong time: {path!r}: {status.st_mtime_ns} instead of {version.mtime_ns}")
    return wrong + [f"extra: {path!r}" for path in found if not (path.startswith(b".headrace/") and partials(path))]


def check_bucket(truth: Truth, client: Any, bucket: str, *, refused: Collection[bytes] = ()) -> list[str]:
    """What is wrong with a bucket: every version must be there once, nothing else, and no upload may be left over."""
    wanted: Counter[bytes] = Counter(
        digest
        for _, digest, _ in {
            (version.path, version.hash, datetime.fromtimestamp(version.mtime_ns // 10**9, UTC).date())
            for version in truth.whole.values()
            if version.path not in refused and not version.disputed and version.hash is not None
        }
    )
    found: Counter[bytes] = Counter()
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for each in page.get("Contents", ()):
            body = client.get_object(Bucket=bucket, Key=each["Key"])["Body"].read()
            found[hashlib.sha256(body).digest()] += 1
    wrong = [f"lost in the bucket: {count} of sha256 {digest.hex()}" for digest, count in (wanted - found).items()]
    wrong += [f"extra in the bucket: {count} of sha256 {digest.hex()}" for digest, count in (found - wanted).items()]
    uploads = client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())
    return wrong + [f"upload left over: {each['Key']!r}" for each in uploads]


def check_receipts(
    truth: Truth, bootstrap: str, prefix: str, groups: Collection[str], *, refused: Collection[bytes] = ()
) -> list[str]:
    """What is wrong with the receipts: each group must account for each version, and confirm only true hashes."""
    said: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for ack in avro_records(bootstrap, prefix + "upload-acks", "UploadAck"):
        said.setdefault((ack["group"], ack["item"]), []).append(ack)
    wrong = []
    for group in groups:
        for file, version in truth.whole.items():
            outcomes = {covers["outcome"] for ack in said.get((group, file), ()) for covers in ack["covers"]}
            if not outcomes:
                wrong.append(f"no receipt of {group} for {version.path!r} ({file})")
            elif version.path in refused:
                if "delivered" in outcomes:
                    wrong.append(f"{group} delivered {version.path!r}, which it should refuse")
            elif not version.disputed and not outcomes & {"delivered", "unchanged"}:
                wrong.append(f"{group} says {sorted(outcomes)} of {version.path!r} ({file}), which is whole")
        for file, version in truth.others.items():
            acks = said.get((group, file), ())
            if any(covers["outcome"] == "delivered" for ack in acks for covers in ack["covers"]):
                wrong.append(f"{group} delivered {version.path!r} ({file}), of which bytes are missing")
    for (group, file), acks in said.items():
        version = truth.whole.get(file)
        for ack in acks:
            delivered = any(covers["outcome"] == "delivered" for covers in ack["covers"])
            if version is not None and delivered and ack["hash"] != version.hash:
                wrong.append(f"{group} confirms another hash of {version.path!r} ({file})")
    return wrong
