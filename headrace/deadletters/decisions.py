"""What was decided on a dead letter: re-driven, replayed with its file, or discarded.

A decision is a receipt on `headrace.upload-acks`, of the group `<prefix>dlq` and the item `dead:<partition>:<offset>`,
the letter's own place. So the log alone tells which dead letters are open, and whoever starts again after a kill skips
what is decided. The receipt names the message that was dead in `where`, as a key of parts: group, item, offset in its
topic, and the operator's reason if there is one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, get_args

import confluent_kafka
import msgspec

from headrace.codec import avro
from headrace.deadletters.letters import DeadLetter, Id
from headrace.errors import PoisonError
from headrace.events import Covers, UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.keys import decode_key, encode_key
from headrace.topics import UPLOAD_ACKS

Verdict = Literal["redriven", "replayed", "discarded"]

LONGEST_PATH = 256
LONGEST_REASON = 500


class Decision(msgspec.Struct, frozen=True, gc=False):
    """One decision: what it was, and on which dead message of which group.

    `letter` is the dead letter's place, `offset` where the message was read, `at` microseconds since the epoch.
    """

    verdict: Verdict
    letter: Id
    group: str
    item: str
    offset: int
    because: str | None
    at: int


def group_name(cluster: Cluster) -> str:
    """The group that decisions are receipts of, and that keeps the place up to which everything is decided."""
    return f"{cluster.settings.prefix}dlq"


def receipt(
    cluster: Cluster, letter: DeadLetter, verdict: Verdict, because: str | None = None
) -> tuple[bytes, UploadAck]:
    """The receipt of a decision, with its key. It goes to the partition number that the dead message came from."""
    group = group_name(cluster)
    item = f"dead:{letter.partition}:{letter.offset}"
    count = cluster.partitions(UPLOAD_ACKS)
    partition = letter.source_partition if 0 <= letter.source_partition < count else letter.partition % count
    about = (letter.group, letter.item, str(letter.source_offset), (because or "")[:LONGEST_REASON])
    path = letter.path
    return encode_key((path if path and len(path) <= LONGEST_PATH else item, group, item)), UploadAck(
        group=group,
        item=item,
        partition=partition,
        first=letter.offset,
        last=letter.offset,
        covers=[Covers(outcome="unchanged" if verdict == "discarded" else "delivered", code=verdict)],
        where=encode_key(about if because else about[:3]).decode("ascii"),
        at=time.time_ns() // 1000,
    )


def record(cluster: Cluster, letters: Iterable[DeadLetter], verdict: Verdict, because: str | None = None) -> int:
    """Write the same decision on each of `letters`, and wait until all are on the log; returns how many."""
    producer = cluster.producer()
    topic = cluster.topic_name(UPLOAD_ACKS)
    count = 0
    for letter in letters:
        key, ack = receipt(cluster, letter, verdict, because)
        # The books of its job follow the decision.
        headers: list[tuple[str, str | bytes | None]] = [("hr-job", letter.job.encode())] if letter.job else []
        while True:
            try:
                producer.produce(topic, avro.encode(ack), key, partition=ack.partition, headers=headers)
            except BufferError:
                producer.poll(0.05)
                continue
            break
        count += 1
    producer.flush()
    return count


def decision_of(ack: UploadAck) -> Decision | None:
    """The decision that a receipt of the decisions' group stands for, None if it is none."""
    code = ack.covers[0].code if ack.covers else None
    try:
        parts = decode_key((ack.where or "").encode("utf-8", "replace")[:4096])
        kind, partition, offset = ack.item.split(":")
        letter = int(partition), int(offset)
        source_offset = int(parts[2])
    except (PoisonError, ValueError, IndexError):
        return None
    if kind != "dead" or code not in get_args(Verdict):
        return None
    because = parts[3] if len(parts) > 3 else None
    return Decision(code, letter, parts[0], parts[1], source_offset, because, ack.at)  # type: ignore[arg-type]


def read_decisions(
    cluster: Cluster, starts: Mapping[int, int] | None = None, consumer: confluent_kafka.Consumer | None = None
) -> Iterator[Decision]:
    """Every decision that is on the log now, in log order per partition; what is decided twice comes twice."""
    group = group_name(cluster)
    ours = f"/{group}/".encode()
    for batch in read_now(cluster, UPLOAD_ACKS, starts=starts, consumer=consumer):
        for message in batch:
            if ours in (message.key() or b"") and (found := _decided(message, group)) is not None:
                yield found


def _decided(message: RawMessage, group: str) -> Decision | None:
    try:
        ack = avro.decode(message.value() or b"", UploadAck)
    except PoisonError:
        return None
    return decision_of(ack) if ack.group == group else None
