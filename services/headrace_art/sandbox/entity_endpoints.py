"""The endpoints of states, districts and institutions. Source: reference art 3.3, 3.7."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from urllib.parse import urlencode

import msgspec

from headrace.sandbox.listening import Reply
from headrace_art.codes import STATES
from headrace_art.sandbox import replies
from headrace_art.sandbox.calls import Call
from headrace_art.sandbox.student import is_latin
from headrace_art.sandbox.tables import Entity

_PARENT_TYPES = {
    "state": {"CLIENT", "GROUPOFSTATES"},
    "district": {"STATE", "CLIENT", "GROUPOFSTATES", "GROUPOFDISTRICTS"},
    "institution": {"STATE", "CLIENT", "GROUPOFSTATES", "GROUPOFDISTRICTS", "DISTRICT", "GROUPOFINSTITUTIONS"},
}
_LABELS = {
    "state": ("StateAbbreviation", "StateAbbreviation"),
    "district": ("LocalEducationAgencyIdentifier", "NCESLEAID"),
    "institution": ("InstitutionIdentifier", "NCESInstitutionId"),
}
_LONGEST_ID = 40
_LONGEST_NAME = 60
_decoder = msgspec.json.Decoder(Entity)


async def post(call: Call) -> Reply:
    """Create one. An institution's answer has no Location, the others' is relative."""
    world, kind = call.world, call.kind
    entity = _bind(call)
    if isinstance(entity, Reply):
        return entity
    messages = _field_errors(kind, entity)
    if not messages:
        messages = _business_errors(call, entity)
    if messages:
        return replies.envelope(400, messages)
    if world.settings.entity_create_ms:
        await world.clock.sleep(world.settings.entity_create_ms / 1000)
        if _business_errors(call, entity):  # somebody else was faster
            return replies.envelope(400, _business_errors(call, entity))
    world.entities.add(kind, entity)
    world.counters.count("entities", kind, "created")
    headers = {} if kind == "institution" else {"Location": f"/{kind}/{entity.id}"}
    return replies.answer(msgspec.to_builtins(entity), 201, headers)


async def put(call: Call) -> Reply:
    """Replace one. The id in the path must be the one in the body."""
    world, kind = call.world, call.kind
    entity = _bind(call)
    if isinstance(entity, Reply):
        return entity
    before = world.entities.kinds[kind].get(call.parts["id"])
    if before is None or entity.id != before.id:
        return replies.generic(world.error_number())
    messages = _field_errors(kind, entity) or _business_errors(call, entity, before)
    if messages:
        return replies.envelope(400, messages)
    world.entities.replace(kind, entity)
    world.counters.count("entities", kind, "replaced")
    return replies.answer(msgspec.to_builtins(entity))


async def get(call: Call) -> Reply:
    """Read one by its internal id."""
    entity = call.world.entities.kinds[call.kind].get(call.parts["id"])
    return replies.empty(404) if entity is None else replies.answer(msgspec.to_builtins(entity))


async def delete(call: Call) -> Reply:
    """Delete one that nothing refers to."""
    entity = call.world.entities.kinds[call.kind].get(call.parts["id"])
    if entity is None:
        return replies.empty(404)
    if call.world.entities.children(call.kind, entity):
        return replies.application_error(400, "The entity is referenced by others")
    call.world.entities.remove(call.kind, entity)
    return replies.empty(204)


async def search(call: Call) -> Reply:
    """A page of what matches; the children of a parent come as a plain array."""
    query, kind = call.query, call.kind
    parent = query.get("stateId") or query.get("districtId")
    if parent is not None:
        return replies.answer([msgspec.to_builtins(each) for each in _children(call, parent)])
    exact = query.get("entityIdExact")
    if exact is not None and "stateAbbreviation" in query:
        one = call.world.entities.find(kind, exact, query["stateAbbreviation"])
        found = [] if one is None else [one]
    else:
        found = [each for each in call.world.entities.kinds[kind].values() if _matches(call, each)]
    return _page(call, found)


async def states_lookup(call: Call) -> Reply:
    """The states that exist; with `static` all codes."""
    if call.query.get("static"):
        return replies.answer(sorted(STATES))
    return replies.answer(sorted(each.entity_id or "" for each in call.world.entities.kinds["state"].values()))


def _page(call: Call, found: list[Entity]) -> Reply:
    query = call.query
    size, page = _number(query.get("pageSize"), 10), _number(query.get("currentPage"), 0)
    key, direction = query.get("sortKey", "entityId"), query.get("sortDir", "ASC")
    rows = [msgspec.to_builtins(each) for each in found]
    rows.sort(key=lambda row: str(row.get(key) or ""), reverse=direction.upper() == "DESC")
    shown = rows[page * size : (page + 1) * size]

    def address(number: int) -> str | None:
        if number < 0 or number * size >= max(len(rows), 1) or number == page:
            return None
        return f"/rest/{call.kind}?{urlencode({**query, 'pageSize': size, 'currentPage': number})}"

    return replies.answer(
        {
            "searchResults": shown,
            "currentPage": page,
            "returnCount": len(shown),
            "pageSize": size,
            "totalCount": len(rows),
            "sortKey": key,
            "sortDirection": direction,
            "nextPageUrl": address(page + 1),
            "prevPageUrl": address(page - 1),
            "searchResource": call.kind,
        }
    )


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdigit() else default


def _matches(call: Call, entity: Entity) -> bool:
    query = call.query
    for key, value in (
        ("entityIdExact", entity.entity_id), ("stateAbbreviation", entity.state_abbreviation),
        ("parentEntityId", entity.parent_entity_id),
    ):  # fmt: skip
        if key in query and query[key] != value:
            return False
    for key, value in (("entityId", entity.entity_id), ("entityName", entity.entity_name)):
        if key in query and not fnmatch.fnmatchcase((value or "").lower(), f"*{query[key].lower()}*"):
            return False
    return True


def _children(call: Call, parent: str) -> Iterable[Entity]:
    parents = call.world.entities.kinds["state" if "stateId" in call.query else "district"]
    above = parents.get(parent)
    if above is None:
        return []
    return [
        each
        for each in call.world.entities.kinds[call.kind].values()
        if each.parent_entity_id == above.entity_id and each.state_abbreviation == above.state_abbreviation
    ]


def _bind(call: Call) -> Entity | Reply:
    try:
        entity = _decoder.decode(call.body)
    except msgspec.ValidationError as error:
        return replies.wrong_type(str(error).partition(" - at `")[2].rstrip("`") or "body")
    except msgspec.DecodeError:
        return replies.bind_exception()
    if entity.nationwide_identifier:
        entity.nationwide_identifier = entity.nationwide_identifier.lstrip("0")
    return entity


def _field_errors(kind: str, entity: Entity) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}

    def identifier(key: str, value: str | None, *, required: bool) -> None:
        if not value:
            if required:
                errors[key] = [f"{key} is required"]
        elif len(value) > _LONGEST_ID or not (value.isascii() and value.isalnum()):
            errors[key] = [f"{key} must be at most {_LONGEST_ID} letters and digits"]

    identifier("entityId", entity.entity_id, required=True)
    identifier("parentEntityId", entity.parent_entity_id, required=True)
    identifier("nationwideIdentifier", entity.nationwide_identifier, required=kind == "institution")
    if not entity.entity_name:
        errors["entityName"] = ["entityName is required"]
    elif len(entity.entity_name) > _LONGEST_NAME or not is_latin(entity.entity_name):
        errors["entityName"] = [f"entityName must be at most {_LONGEST_NAME} Latin characters"]
    if entity.state_abbreviation not in STATES:
        errors["stateAbbreviation"] = ["stateAbbreviation is unknown"]
    if entity.parent_entity_type not in _PARENT_TYPES[kind]:
        errors["parentEntityType"] = ["parentEntityType is not valid here"]
    return errors


def _business_errors(call: Call, entity: Entity, before: Entity | None = None) -> dict[str, list[str]]:
    entities, kind = call.world.entities, call.kind
    identifier, nationwide = _LABELS[kind]
    errors: dict[str, list[str]] = {}
    existing = entities.find(kind, entity.entity_id, entity.state_abbreviation)
    if existing is not None and existing is not before:
        return {identifier: ["already exists"]}
    if kind != "state" and not _parent_exists(call, entity):
        errors["ParentExternalId"] = ["does not exist"]
    own = before is not None and before.nationwide_identifier == entity.nationwide_identifier
    if entity.nationwide_identifier and entities.taken(kind, entity.nationwide_identifier) > int(own):
        errors[nationwide] = ["already exists"]
    return errors


def _parent_exists(call: Call, entity: Entity) -> bool:
    if entity.parent_entity_type == "CLIENT":
        return True
    kind = {"STATE": "state", "DISTRICT": "district"}.get(entity.parent_entity_type or "")
    return kind is not None and bool(call.world.entities.find(kind, entity.parent_entity_id, entity.state_abbreviation))
