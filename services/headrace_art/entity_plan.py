"""Districts and schools: what ART should have, and what to do about what it has. Pure.

Source: reference art 1.8, 3.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from headrace.errors import PermanentError
from headrace_art.mapping.values import DistrictRule, district_id, is_identifier, is_latin
from headrace_art.schools import SchoolRow

LONGEST_NAME = 60
LONGEST_ID = 40

Kind = Literal["district", "institution"]


class EntityIncomplete(PermanentError):
    """The {kind} {entity_id} cannot be registered: {problem}. Mend the schools file."""

    code = "art-entity-incomplete"


class EntityTwice(PermanentError):
    """The {kind} {entity_id} stands in the schools file twice, with another {what}; the first row counts."""

    code = "art-entity-twice"


class Wanted(NamedTuple):
    """A district or institution as it should be at ART."""

    kind: Kind
    entity_id: str
    name: str
    parent_id: str
    state: str

    @property
    def record(self) -> dict[str, str]:
        """What is posted."""
        return {
            "entityId": self.entity_id,
            "entityName": self.name,
            "nationwideIdentifier": self.entity_id,
            "parentEntityId": self.parent_id,
            "parentEntityType": "STATE" if self.kind == "district" else "DISTRICT",
            "stateAbbreviation": self.state,
        }


@dataclass(frozen=True)
class EntityPlan:
    """Everything that a schools file asks for: districts come first, since schools need them."""

    districts: tuple[Wanted, ...]
    institutions: tuple[Wanted, ...]
    problems: tuple[PermanentError, ...]


class Action(StrEnum):
    """What is to be done at ART."""

    NOTHING = "nothing"
    CREATE = "create"
    RENAME = "rename"


class Decision(NamedTuple):
    """What is to be done, and whether a person must look: ART's parent is another one, and is left alone."""

    action: Action
    parent_changed: bool


def plan(rows: Iterable[SchoolRow], state: str, rule: DistrictRule = "fixed") -> EntityPlan:
    """What ART should have after this schools file.

    Each row is a school; those of districts are districts, too. Names are cut to 60 characters.
    """
    found: dict[tuple[Kind, str], Wanted] = {}
    problems: list[PermanentError] = []
    for row in rows:
        for wanted in _of(row, state, rule):
            _take(wanted, found, problems)
    districts = tuple(each for each in found.values() if each.kind == "district")
    institutions = tuple(each for each in found.values() if each.kind == "institution")
    return EntityPlan(districts, institutions, tuple(problems))


def asked(row: SchoolRow, state: str, rule: DistrictRule = "fixed") -> list[Wanted]:
    """What one row asks for. Raises EntityIncomplete."""
    found = _of(row, state, rule)
    for wanted in found:
        _check(wanted)
    return found


def keep_first(wanted: Wanted, found: dict[tuple[Kind, str], Wanted]) -> None:
    """Add it to what was found before. Raises EntityTwice if that is another one of the same id."""
    before = found.setdefault((wanted.kind, wanted.entity_id), wanted)
    if before != wanted:
        what = "name" if before.parent_id == wanted.parent_id else "district"
        raise EntityTwice(kind=wanted.kind, entity_id=wanted.entity_id, what=what)


def decide(wanted: Wanted, name: str | None, parent_id: str | None) -> Decision:
    """What to do about one of them.

    Parameters:
        name, parent_id: what ART has; None if it has no such entity.
    """
    if name is None:
        return Decision(Action.CREATE, False)
    action = Action.NOTHING if name == wanted.name else Action.RENAME
    # A district's parent is the state by definition: the loader did not look at it, and neither do we.
    return Decision(action, wanted.kind == "institution" and parent_id != wanted.parent_id)


def _of(row: SchoolRow, state: str, rule: DistrictRule) -> list[Wanted]:
    district = district_id(row.district, rule)
    school = Wanted("institution", row.cds, row.name[:LONGEST_NAME], district, state)
    if row.is_district:
        return [Wanted("district", district, row.district_name[:LONGEST_NAME], state, state), school]
    return [school]


def _take(wanted: Wanted, found: dict[tuple[Kind, str], Wanted], problems: list[PermanentError]) -> None:
    try:
        _check(wanted)
        keep_first(wanted, found)
    except PermanentError as problem:
        problems.append(problem)


def _check(wanted: Wanted) -> None:
    problem = _incomplete(wanted)
    if problem is not None:
        raise EntityIncomplete(problem=problem, kind=wanted.kind, entity_id=wanted.entity_id or "without an id")


def _incomplete(wanted: Wanted) -> str | None:
    """Which rule of ART it breaks, if any."""
    for text, what in ((wanted.entity_id, "its id"), (wanted.parent_id, "its district")):
        if not text:
            return f"{what} is blank"
        if len(text) > LONGEST_ID or not is_identifier(text):
            return f"{what} is not made of at most {LONGEST_ID} letters and digits"
    if not wanted.name:
        return "its name is blank"
    return None if is_latin(wanted.name) else "its name has characters that ART does not take"
