"""The endpoints of students and batches. Source: reference art 3.3, 3.5."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from headrace.sandbox.listening import Reply
from headrace_art.codes import GRADES, LANGUAGES
from headrace_art.sandbox import consumer, replies
from headrace_art.sandbox.calls import Call
from headrace_art.sandbox.node import BrokerRestarted
from headrace_art.sandbox.student import BadDate, Student, broken_rules, pack, unpack


class _Removal(msgspec.Struct, rename="camel"):
    ssid: str
    state_code: str


_removals = msgspec.json.Decoder(list[_Removal])


async def batch_post(call: Call) -> Reply:
    """Take many students: all are bound, or nothing happens."""
    try:
        students = call.world.binder.many(call.body)
    except (msgspec.DecodeError, BadDate, UnicodeDecodeError) as error:
        return _unbound(error)
    return await _submit(call, students, upsert=True)


async def batch_delete(call: Call) -> Reply:
    """Take many students to delete."""
    try:
        removals = _removals.decode(call.body)
    except msgspec.DecodeError as error:
        return _unbound(error)
    return await _submit(call, [each.ssid for each in removals], upsert=False)


async def batch_status(call: Call) -> Reply:
    """How far a batch is. Only its own user may know; others, and unknown ids, get the generic error."""
    batch = call.world.batches.get(call.parts["id"])
    if batch is None or batch.user != call.user:
        return replies.generic(call.world.error_number())
    return replies.answer(batch.status())


async def student_post(call: Call) -> Reply:
    """Save one student at once."""
    state = call.parts["state"]
    try:
        student = call.world.binder.one(call.body)
    except (msgspec.DecodeError, BadDate) as error:
        return _unbound(error)
    broken: dict[str, list[str]] = {}
    for field, text in broken_rules(student) if call.world.settings.strict_fields else []:
        broken.setdefault(field, []).append(text)
    if student.state_abbreviation != state:
        broken.setdefault("stateAbbreviation", []).append(f"{student.state_abbreviation} is not {state}")
    denied = consumer.access_problem(call.world, state, student)
    if denied is not None:
        broken.setdefault("applicationErrors", []).append(denied.strip())
    if broken:
        return replies.envelope(400, broken)
    ssid, packed = student.ssid or "", pack(student)
    before = call.world.students.get(state, ssid)
    if before != packed:
        consumer.store(call.world, state, student, packed)
    return replies.empty(201 if before is None else 204, {"Location": f"{call.url}/{ssid}"})


async def student_get(call: Call) -> Reply:
    """Read one student."""
    packed = call.world.students.get(call.parts["state"], call.parts["ssid"])
    return replies.empty(404) if packed is None else replies.answer(unpack(packed))


async def student_delete(call: Call) -> Reply:
    """Delete one student."""
    return replies.empty(204 if call.world.students.delete(call.parts["state"], call.parts["ssid"]) else 404)


async def languages(_: Call) -> Reply:
    """The language codes."""
    return replies.answer(sorted(LANGUAGES))


async def grades(_: Call) -> Reply:
    """The grades."""
    return replies.answer(list(GRADES))


async def _submit(call: Call, messages: Sequence[Student | str], *, upsert: bool) -> Reply:
    world, state, fault = call.world, call.parts["state"], call.fault
    batch = world.new_batch(state, call.user, len(messages), upsert=upsert)
    broken = fault is not None and fault.action == "partial_publish"
    wanted = messages[: fault.count] if fault is not None and broken else messages
    try:
        await call.node.publish(batch, wanted)
    except BrokerRestarted:
        broken = True
    if broken:
        # The part that was queued is processed all the same; the record stays incomplete for ever.
        rest = len(messages) - len(wanted)
        world.lose(batch, rest)
        return replies.generic(world.error_number())
    world.counters.count("students", "submitted", by=len(messages))
    if fault is not None and fault.action == "no_location":
        return replies.empty(202)
    # Every occurrence of the state goes, wherever in the address it stands.
    address = call.url.removesuffix("/").replace(f"/{state}", "")
    return replies.empty(202, {"Location": f"{address}/{batch.id}"})


def _unbound(error: Exception) -> Reply:
    if isinstance(error, msgspec.ValidationError):
        _, _, path = str(error).partition(" - at `")
        return replies.wrong_type(path.rstrip("`").rpartition(".")[2] or "body")
    return replies.bind_exception()
