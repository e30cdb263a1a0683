"""How many rows the last file of a dataset had, from one source: what a dump that shrank is compared with.

It is read from this group's own receipts, which any copy of the service can read and which last for 400 days.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.events import UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import decode_key
from headrace.topics import UPLOAD_ACKS

SCHEME = "kafka"


class Last(NamedTuple):
    """The last delivered file of a dataset and source: when, in microseconds since the epoch, and how many rows."""

    at: int
    file: bytes
    rows: int


def place(topic: str, source: str) -> str:
    """What a receipt says of where the records of a file are: the topic on the wire, and the source it came from."""
    return f"{SCHEME}://{topic}?source={quote(source, safe='')}"


class EarlierFiles:
    """What this group has delivered before. Reads on from where it stopped each time it is asked.

    Parameters:
        group: our consumer group, by which its receipts are known.
    """

    def __init__(self, cluster: Cluster, group: str) -> None:
        self._cluster = cluster
        self._group = group
        self._mark = f"/{quote(group, safe='')}/".encode()
        self._starts: dict[int, int] | None = None
        self._found: dict[tuple[str, str], list[Last]] = {}

    def rows(self, topic: str, source: str, file: bytes) -> int | None:
        """Rows of the last file that was delivered to `topic` from `source`, other than `file`; None if there is none.

        Raises KafkaUnreachable, MissingTopic.
        """
        self._read()
        others = [last for last in self._found.get((topic, source), ()) if last.file != file]
        return max(others).rows if others else None

    def _read(self) -> None:
        starts = self._starts
        if starts is None:
            starts = dict.fromkeys(range(self._cluster.partitions(UPLOAD_ACKS)), 0)
        reached = dict(starts)
        for batch in read_now(self._cluster, UPLOAD_ACKS, starts=starts):
            for message in batch:
                reached[message.partition()] = message.offset() + 1
                # To look into the key is far cheaper than to decode what others have said.
                if self._mark in (message.key() or b"") and message.value():
                    self._take(message.key() or b"", message.value() or b"")
        self._starts = reached

    def _take(self, key: bytes, value: bytes) -> None:
        try:
            if decode_key(key)[1:2] != (self._group,):
                return
            ack = avro.decode(value, UploadAck)
        except PoisonError:
            return
        if ack.where is None or ack.file is None or all(covers.lines is None for covers in ack.covers):
            return
        url = urlsplit(ack.where)
        if url.scheme != SCHEME:
            return
        source = parse_qs(url.query, keep_blank_values=True).get("source", [""])[0]
        rows = sum(covers.count for covers in ack.covers if covers.outcome in ("delivered", "dead_lettered"))
        known = self._found.setdefault((url.netloc, source), [])
        # Two are enough: the last one, and the one before, should the last be the file that is asked about.
        others = [last for last in known if last.file != ack.file]
        self._found[url.netloc, source] = sorted([*others, Last(ack.at, ack.file, rows)])[-2:]
