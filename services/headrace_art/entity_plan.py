"""Districts and schools: what ART should have, and what to do about what it has. Pure.

Source: reference art 1.8, 3.7.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal, NamedTuple

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


@dataclass(frozen=True)
class Wanted:
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
        district = district_id(row.district, rule)
        if row.is_district:
            _take(Wanted("district", district, row.district_name[:LONGEST_NAME], state, state), found, problems)
        _take(Wanted("institution", row.cds, row.name[:LONGEST_NAME], district, state), found, problems)
    districts = tuple(each for each in found.values() if each.kind == "district")
    institutions = tuple(each for each in found.values() if each.kind == "institution")
    return EntityPlan(districts, institutions, tuple(problems))


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


def _take(wanted: Wanted, found: dict[tuple[Kind, str], Wanted], problems: list[PermanentError]) -> None:
    problem = _incomplete(wanted)
    if problem is not None:
        details: dict[str, Any] = {"kind": wanted.kind, "entity_id": wanted.entity_id or "without an id"}
        problems.append(EntityIncomplete(problem=problem, **details))
        return
    before = found.setdefault((wanted.kind, wanted.entity_id), wanted)
    if before != wanted:
        what = "name" if before.parent_id == wanted.parent_id else "district"
        problems.append(EntityTwice(kind=wanted.kind, entity_id=wanted.entity_id, what=what))


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
