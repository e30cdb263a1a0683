"""The topics of this family, and what stands on them. Source: design section 3."""

from __future__ import annotations

from typing import Literal

from headrace.events import Event
from headrace.topics import Topic

EntityKind = Literal["district", "institution"]


class Entity(Event, frozen=True, kw_only=True):
    """A district or school that ART has confirmed.

    `codes` are what students name the school by (`headrace_art.mapping.values.school_key`); `file` is the schools file
    that asked for it last.
    """

    kind: EntityKind
    entity_id: str
    name: str
    parent_id: str
    state: str
    codes: list[str]
    job: str | None = None
    file: bytes
    at: int


class EntitiesDone(Event, frozen=True, kw_only=True):
    """Everything that one of the `partitions` of a schools file asks for is done.

    `reaches` says, by partition of this topic, before which offset the entities are: who has read that far knows them.
    """

    job: str | None = None
    file: bytes
    partition: int
    partitions: int
    reaches: dict[str, int]
    at: int


ENTITIES = Topic(
    "entities",
    purpose="districts and schools that ART has confirmed, and which schools files are done",
    key="entity id / kind, or file id / partition",
    values=(Entity, EntitiesDone),
    cleanup="compact",
)
STATE_STUDENTS = Topic(
    "state.students",
    purpose="what was last confirmed of each student: a hash of the row and of what it was made with",
    key="as the students' records",
    framing="original",
    cleanup="compact",
)

TOPICS = (ENTITIES, STATE_STUDENTS)
