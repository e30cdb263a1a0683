"""Everything that the nodes share: time, settings, tables, batches, counters."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from headrace.sandbox.clock import Clock
from headrace.sandbox.counters import Counters
from headrace_art.sandbox.batches import Batch
from headrace_art.sandbox.settings import ArtSandboxSettings
from headrace_art.sandbox.student import Binder
from headrace_art.sandbox.tables import Entities, Entity, Ids, Students
from headrace_art.sandbox.tokens import Provider


class World:
    """One ART database with what surrounds it."""

    def __init__(self, settings: ArtSandboxSettings, clock: Clock) -> None:
        self.settings, self.clock = settings, clock
        self.counters = Counters()
        self.binder = Binder()
        self.reset()

    def reset(self) -> None:
        """Begin anew: one state, no districts, no students, no tokens."""
        settings = self.settings
        self.began = self.clock.now()
        self.counters.clear()
        self.ids = Ids(settings.seed)
        self.random = random.Random(settings.seed)  # noqa: S311 - error numbers
        self.entities = Entities(self.ids, self.clock.now)
        self.students = Students()
        self.batches: dict[str, Batch] = {}
        self.provider = Provider(lambda: self.settings, self.clock.now, self.counters)
        self.backlog = 0
        self._events, self._events_at = 0.0, self.began
        state = Entity(
            entity_id=settings.state, entity_name=settings.state, state_abbreviation=settings.state,
            parent_entity_type="CLIENT", parent_entity_id="client",
        )  # fmt: skip
        self.entities.add("state", state, fresh=False)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return self.clock.now() - self.began

    def error_number(self) -> int:
        """What a generic error is numbered with."""
        return self.random.randrange(100_000)

    def new_batch(self, state: str, user: str, submitted: int, *, upsert: bool) -> Batch:
        """Store a status record."""
        batch = Batch(self.ids.next(), state, user, submitted, upsert, self.clock.now())
        self.batches[batch.id] = batch
        self.backlog += submitted
        self.counters.highest("backlog_highest", value=self.backlog)
        return batch

    def lose(self, batch: Batch, students: int) -> None:
        """Some students of a batch will never be processed."""
        batch.lost += students
        self.backlog -= students
        self.counters.count("students", "lost", by=students)

    def event(self) -> None:
        """A saved student goes on to the queue for eligibility."""
        self._drain_events()
        self._events += 1
        self.counters.count("events")

    def summary(self) -> Mapping[str, Any]:
        """What is not a counter, for the dump of counters."""
        self._drain_events()
        outcomes: dict[str, int] = {}
        for batch in self.batches.values():
            outcomes[batch.outcome] = outcomes.get(batch.outcome, 0) + 1
        return {
            "elapsed": self.elapsed,
            "backlog": self.backlog,
            "events_waiting": int(self._events),
            "batches": outcomes,
            "stored": {
                "students": len(self.students),
                "unlinked": len(self.students.unlinked),
                "districts": len(self.entities.kinds["district"]),
                "institutions": len(self.entities.kinds["institution"]),
            },
            "saved_more_than_once": len(self.students.saved_again),
        }

    def _drain_events(self) -> None:
        now, rate = self.clock.now(), self.settings.event_rate
        self._events = 0.0 if rate is None else max(0.0, self._events - (now - self._events_at) * rate)
        self._events_at = now
