"""Tables: a compacted topic that every copy reads whole, and goes on reading. Source: design section 4, "State"."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import structlog

from headrace.errors import FatalError, TransientError
from headrace.kafka.clients import Cluster
from headrace.kafka.following import Follower
from headrace.topics import Topic

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
RETRY_SECONDS = 1.0

Take = Callable[[int, bytes, bytes | None], None]
"""Called in the table's thread with partition, key and value, in log order per partition; None removes the key."""


class TableFailed(FatalError):
    """The table of {topic} cannot be read: {problem}; the process ends and starts again."""

    code = "table-failed"


class Table:
    """Reads a topic from its beginning in a thread, and goes on with what is added.

    Parameters:
        take: keeps what is read; it is called in the table's thread only.
    """

    def __init__(self, cluster: Cluster, topic: Topic, take: Take) -> None:
        self._cluster, self._topic, self._take = cluster, topic, take
        self._stop = threading.Event()
        self._complete = threading.Event()
        self._failure: Exception | None = None
        self._positions: Mapping[int, int] = {}
        self._thread = threading.Thread(target=self._run, name=f"table-{topic.name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    @property
    def complete(self) -> bool:
        """Whether everything was read that was there at the start. Raises TableFailed."""
        if self._failure is not None:
            raise TableFailed(topic=self._topic.name, problem=type(self._failure).__name__) from self._failure
        return self._complete.is_set()

    def reached(self, offsets: Mapping[int, int]) -> bool:
        """Whether everything before these offsets, by partition, was taken."""
        positions = self._positions
        return all(positions.get(number, 0) >= offset for number, offset in offsets.items())

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        follower: Follower | None = None
        try:
            while follower is None and not self._stop.is_set():
                try:
                    follower = Follower(self._cluster, (self._topic,))
                except TransientError as error:
                    log.warning("table is not read yet, trying again", topic=self._topic.name, problem=str(error))
                    self._stop.wait(RETRY_SECONDS)
            while follower is not None and not self._stop.is_set():
                for message in follower.poll(POLL_SECONDS):
                    self._take(message.partition() or 0, message.key() or b"", message.value())
                self._positions = {number: offset for (_, number), offset in follower.positions.items()}
                if follower.caught_up:
                    self._complete.set()
        except Exception as error:
            log.exception("table cannot be read", topic=self._topic.name)
            self._failure = error
        finally:
            if follower is not None:
                follower.close()
