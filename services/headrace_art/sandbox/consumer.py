"""What ART's queue consumer does with one student. Source: reference art 3.6."""

from __future__ import annotations

from headrace_art.sandbox.batches import Batch
from headrace_art.sandbox.student import Student, broken_rules, pack
from headrace_art.sandbox.world import World


def upsert(world: World, batch: Batch, student: Student) -> bool:
    """Process one student of a batch; whether it was saved."""
    now = world.clock.now()
    ssid, state = student.ssid or "", batch.state
    packed = pack(student)
    if world.students.get(state, ssid) == packed:
        batch.succeeded(now)
        world.counters.count("students", "unchanged")
        return False
    problem = _problem(world, state, student)
    if problem is not None:
        batch.failed(student.ssid, problem, now)
        world.counters.count("students", "failed")
        return False
    store(world, state, student, packed)
    batch.succeeded(now)
    return True


def store(world: World, state: str, student: Student, packed: bytes) -> None:
    """Save the whole document, with links to what exists; accommodations are not carried over."""
    ssid = student.ssid or ""
    institution = world.entities.find("institution", student.institution_identifier, state)
    if not student.district_identifier and institution is not None and institution.parent_entity_type == "DISTRICT":
        # After the comparison: such a student is saved anew each time it is sent.
        student.district_identifier = institution.parent_entity_id
        packed = pack(student)
    missing = [] if world.entities.find("district", student.district_identifier, state) else ["district"]
    if institution is None:
        missing.append("institution")
    world.students.save(state, ssid, packed, " ".join(missing))
    world.counters.count("students", "saved")
    if (state, ssid) in world.students.accommodations:
        world.students.accommodations.discard((state, ssid))
        world.counters.count("accommodations_lost")
    world.event()


def delete(world: World, batch: Batch, ssid: str) -> bool:
    """Delete one student of a batch; whether it was there."""
    now = world.clock.now()
    if world.students.delete(batch.state, ssid):
        batch.succeeded(now)
        world.counters.count("students", "deleted")
        return True
    batch.failed(ssid, "student not found\n", now)
    world.counters.count("students", "failed")
    return False


def access_problem(world: World, state: str, student: Student) -> str | None:
    """Why the user may not put a student there: the entity exists, but is not among those that the cache holds."""
    settings, entities = world.settings, world.entities
    for kind, entity_id in (
        ("district", student.district_identifier),
        ("institution", student.institution_identifier),
    ):
        entity = entities.find(kind, entity_id, state)
        if entity is None:
            continue
        if entity_id in settings.outside_entities or not entities.accessible(kind, entity, settings.entity_cache_lag_s):
            return f"access denied to {kind}\n"
    return None


def _problem(world: World, state: str, student: Student) -> str | None:
    if student.state_abbreviation != state:
        return f"stateAbbreviation {student.state_abbreviation} is not {state}\n"
    denied = access_problem(world, state, student)
    if denied is not None:
        return denied
    broken = broken_rules(student) if world.settings.strict_fields else []
    return "".join(f"{text}\n" for _, text in broken) or None
