"""A log of very many files that never were: announcements and receipts as sources and sinks would have left them."""

from __future__ import annotations

import time

from headrace.codec import avro
from headrace.events import Covers, FileEvent, UploadAck
from headrace.kafka.clients import Cluster
from headrace.keys import file_id, partition_of, path_id
from headrace.topics import FILES, UPLOAD_ACKS

SOURCE = "instrument"
_PATH_ID, _FILE, _PATH = bytes(range(0x80, 0x90)), bytes(range(0xA0, 0xB0)), b"run/0000/0000000000.dat"
_HASH = b"\x03" * 32


def path_of(number: int) -> bytes:
    """The name of a file."""
    return b"run/%04d/%010d.dat" % (number // 1000 % 10_000, number)


def fill(cluster: Cluster, files: int, services: tuple[str, ...], job: str | None = None) -> float:
    """Put `files` announced files on the log, each with a delivered receipt of each service; the seconds it took.

    Every message is a real one but for what stands in it: ids and paths are patched into an encoded event, since to
    encode millions anew would take longer than all that is measured.
    """
    began = time.monotonic()
    event = avro.encode(
        FileEvent(
            path_id=_PATH_ID, file=_FILE, source=SOURCE, path=_PATH, state="announced", attempt=0, inode=7,
            mtime_ns=1_700_000_000_000_000_000, ctime_ns=1_700_000_000_000_000_000, size=10_000, acked=10_000,
            alg="sha256", hash=_HASH, partition=0, first=1_000_000, last=1_000_000, job=job, at=1_700_000_000_000_000,
        )
    )  # fmt: skip
    groups = [cluster.group_name(service, "site") for service in services]
    receipts = [
        avro.encode(
            UploadAck(
                group=group, item=_FILE.hex(), job=job, file=_FILE, partition=0, first=1_000_000, last=1_000_000,
                covers=[Covers(outcome="delivered")], where="file:///data/site/" + _PATH.decode(), alg="sha256",
                hash=_HASH, size=10_000, at=1_700_000_000_000_000,
            )
        )
        for group in groups
    ]  # fmt: skip
    headers = [("hr-job", job.encode())] if job else None
    producer = cluster.producer({"queue.buffering.max.messages": 1_000_000, "linger.ms": 20})
    topics = cluster.topic_name(FILES), cluster.topic_name(UPLOAD_ACKS)
    count = cluster.partitions(FILES)

    def send(topic: str, value: bytes, key: bytes, partition: int) -> None:
        while True:
            try:
                producer.produce(topic, value, key, partition=partition, headers=headers)
            except BufferError:
                producer.poll(0.1)
                continue
            return

    for number in range(files):
        path = path_of(number)
        path_key = path_id(SOURCE, path)
        file = file_id(SOURCE, path, 7, 10_000, 1_700_000_000_000_000_000, 0)
        text, item = path_key.hex(), file.hex().encode()
        partition = partition_of.__wrapped__(text, count)
        key = text.encode()
        value = event.replace(_PATH_ID, path_key).replace(_FILE, file).replace(_PATH, path)
        send(topics[0], value, key + b"/" + item, partition)
        for group, receipt in zip(groups, receipts, strict=True):
            value = receipt.replace(_FILE.hex().encode(), item).replace(_FILE, file).replace(_PATH, path)
            send(topics[1], value, key + b"/" + group.encode() + b"/" + item, partition)
        if number % 1000 == 0:
            producer.poll(0)
    if producer.flush(120):
        raise RuntimeError("the log did not take everything")
    return time.monotonic() - began
