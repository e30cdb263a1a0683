"""What ART has confirmed of districts and schools, as a table that follows `headrace.entities`."""

from __future__ import annotations

import threading
from collections import defaultdict

import structlog

from headrace.codec import avro
from headrace.errors import PoisonError
from headrace.kafka.clients import Cluster
from headrace.state.table import Table
from headrace_art.topics import ENTITIES, EntitiesDone, Entity, EntityKind

log = structlog.get_logger(__name__)


class Confirmed:
    """Districts and schools by id, schools by what students name them by, and which jobs' schools are done."""

    def __init__(self, cluster: Cluster) -> None:
        self._table = Table(cluster, ENTITIES, self._take)
        self._lock = threading.Lock()
        self._entities: dict[tuple[EntityKind, str], Entity] = {}
        self._at: dict[str, int] = {}
        self._done: defaultdict[str, dict[bytes, dict[int, EntitiesDone]]] = defaultdict(dict)
        self.schools: dict[str, str] = {}
        """ART's ids of schools by `school_key`; it changes while schools are confirmed."""

    def start(self) -> None:
        """Begin to read."""
        self._table.start()

    def close(self) -> None:
        """Stop reading."""
        self._table.close()

    @property
    def complete(self) -> bool:
        """Whether everything was read that was there at the start. Raises TableFailed."""
        return self._table.complete

    def entity(self, kind: EntityKind, entity_id: str) -> Entity | None:
        """What ART confirmed of one of them."""
        return self._entities.get((kind, entity_id))

    def done(self, job: str) -> bool:
        """Whether a schools file of this job is done, and all that it asked for is known here."""
        with self._lock:
            files = [dict(parts) for parts in self._done.get(job, {}).values()]
        return any(self._whole(parts) for parts in files)

    def _whole(self, parts: dict[int, EntitiesDone]) -> bool:
        first = next(iter(parts.values()))
        return len(parts) >= first.partitions and all(
            self._table.reached({int(number): offset for number, offset in part.reaches.items()})
            for part in parts.values()
        )

    def _take(self, partition: int, key: bytes, value: bytes | None) -> None:  # noqa: ARG002 - the value names itself
        if value is None:
            return
        try:
            event = avro.decode_one_of(value, ENTITIES.values)
        except PoisonError as error:
            log.warning("an entity cannot be read", problem=str(error))
            return
        if isinstance(event, EntitiesDone):
            if event.job is not None:
                with self._lock:
                    self._done[event.job].setdefault(event.file, {})[event.partition] = event
        elif isinstance(event, Entity):
            self._entities[event.kind, event.entity_id] = event
            for code in event.codes:
                # Of two that claim a code the one that was confirmed later: the code moved.
                if event.at >= self._at.get(code, 0):
                    self._at[code] = event.at
                    self.schools[code] = event.entity_id
