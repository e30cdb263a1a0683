"""Was an item delivered before? Found on the log, since a process forgets what it has a receipt of.

A sender that comes late may send a part of a file again which has long been delivered. What is left of it stays
incomplete; that must not be said over the delivery, whose receipt has the same key. Source: design section 1, rule 4.
"""

from __future__ import annotations

import threading
import time

import confluent_kafka
import structlog

from headrace import topics
from headrace.codec import avro
from headrace.errors import HeadraceError, PoisonError
from headrace.events import UploadAck
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.keys import encode_key
from headrace.receipts import receipt_key

log = structlog.get_logger(__name__)

AGAIN_SECONDS = 5.0
CLOSE_SECONDS = 2.0
# It rests for so many times what a reading took, since it reads a lot for little, but no longer than this.
REST, LONGEST_REST = 10.0, 60.0

_Asked = tuple[int, str, str]


class Deliveries:
    """Looks for receipts of a group in a thread of its own: all that are asked for at a time, in one reading.

    It reads whole partitions of receipts, so it is for items that are stuck. For the loop's thread.
    """

    def __init__(self, cluster: Cluster, group: str) -> None:
        self._cluster = cluster
        self._group = group
        self._lock = threading.Condition()
        self._asked: set[_Asked] = set()
        self._found: dict[_Asked, UploadAck | None] = {}
        self._thread: threading.Thread | None = None
        self._stopping = False

    def look(self, number: int, path: str, item: str) -> bool:
        """Begin to look for the receipt of an item, unless that was done; whether it is known what there is."""
        place = (number, path, item)
        with self._lock:
            if place in self._found:
                return True
            self._asked.add(place)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="deliveries", daemon=True)
                self._thread.start()
            self._lock.notify()
        return False

    def found(self, number: int, path: str, item: str) -> UploadAck | None:
        """The receipt that says that the item was delivered, if there is one and it was looked for."""
        return self._found.get((number, path, item))

    def forget(self, number: int, path: str, item: str) -> None:
        """The item is closed: what comes of it later is looked for anew."""
        if self._thread is None:
            return
        with self._lock:
            self._asked.discard((number, path, item))
            self._found.pop((number, path, item), None)

    def close(self) -> None:
        """Stop looking."""
        with self._lock:
            self._stopping = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join(CLOSE_SECONDS)

    def _work(self) -> None:
        while True:
            with self._lock:
                self._lock.wait_for(lambda: self._asked or self._stopping)
                if self._stopping:
                    return
                asked = set(self._asked)
            began = time.monotonic()
            try:
                found = self._read(asked)
            except (HeadraceError, confluent_kafka.KafkaException) as error:
                log.warning("cannot look for earlier receipts, trying again", problem=str(error))
                self._rest(AGAIN_SECONDS)
                continue
            with self._lock:
                still = asked & self._asked
                self._found.update({place: found.get(place) for place in still})
                self._asked -= still
            self._rest(min(REST * (time.monotonic() - began), LONGEST_REST))

    def _rest(self, seconds: float) -> None:
        with self._lock:
            self._lock.wait_for(lambda: self._stopping, seconds)

    def _read(self, asked: set[_Asked]) -> dict[_Asked, UploadAck]:
        keys = {encode_key(receipt_key(path, self._group, item)): (number, path, item) for number, path, item in asked}
        found: dict[_Asked, UploadAck] = {}
        starts = {number: 0 for number, _, _ in asked}
        for batch in read_now(self._cluster, topics.UPLOAD_ACKS, starts=starts):
            for message in batch:
                place = keys.get(message.key() or b"")
                if place is None or place[0] != message.partition():
                    continue
                value = message.value()
                if value is None:
                    # Taken back, so that the item is made anew.
                    found.pop(place, None)
                    continue
                try:
                    ack = avro.decode(value, UploadAck)
                except PoisonError:
                    continue
                if any(part.outcome == "delivered" for part in ack.covers):
                    found[place] = ack
            if self._stopping:
                break
        return found
