"""Students that are known and that a dump does not name. They are reported and never deleted.

Partition by partition, since a student's records and what is remembered of it are in partitions of one number: a sixth
of 6.4 million keys is in memory at a time, some 130 MB. Source: reference art 4.2 R5.
"""

from __future__ import annotations

from urllib.parse import unquote

from headrace.datasets.catalogue import Dataset
from headrace.datasets.encoding import KEY_SEPARATOR
from headrace.errors import PoisonError
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import offsets_at, read_now
from headrace.keys import decode_key
from headrace_art.topics import STATE_STUDENTS

_ID_AT_MOST = 200
"""Bytes in which a record names its file: the header, the job's id, the file's."""

Student = tuple[str, str]
"""State and SSID."""


def absent(cluster: Cluster, dataset: Dataset, file: bytes, records: int, since: int) -> list[Student] | None:
    """The students that ART has confirmed and that the file has no record of; None if its records are gone by now.

    Parameters:
        records: how many the file has.
        since: milliseconds since the epoch, before the first record of the file.

    Raises KafkaUnreachable, MissingTopic.
    """
    starts = offsets_at(cluster, dataset.topic, since)
    found: list[Student] = []
    seen = 0
    for number in range(cluster.partitions(STATE_STUDENTS)):
        known = _known(cluster, number)
        if number in starts:
            for batch in read_now(cluster, dataset.topic, starts={number: starts[number]}):
                mine = [message.key() or b"" for message in batch if file in (message.value() or b"")[:_ID_AT_MOST]]
                known.difference_update(mine)
                seen += len(mine)
        found += map(_student, sorted(known))
    return found if seen >= records else None


def _known(cluster: Cluster, number: int) -> set[bytes]:
    known: set[bytes] = set()
    for batch in read_now(cluster, STATE_STUDENTS, starts={number: 0}):
        for message in batch:
            key = message.key() or b""
            if message.value():
                known.add(key)
            else:
                known.discard(key)
    return known


def _student(key: bytes) -> Student:
    try:
        state, _, ssid = decode_key(key)[0].partition(KEY_SEPARATOR)
    except PoisonError:
        return "", key.hex()
    return unquote(state), unquote(ssid)
