"""The control port of a stand-in: look at what it has seen, make it fail, move its clock. For loopback only.

    GET  /counters              what was seen
    GET  /tables                names of the tables;  GET /tables/NAME  one of them, in a canonical order
    GET  /clock                 {"now": seconds since 1970}
    POST /clock/advance         {"seconds": 300}      (a stepped clock only)
    GET  /faults                the plan;  PUT /faults  [rule, ...]  replaces it
    POST /reset                 as if just started; the fault plan is emptied too
    POST /configure             {"setting": value}    changes settings while it runs
    POST /NAME                  what only this stand-in can do, with its arguments as a JSON object

Source: reference art 5.5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import orjson
from aiohttp import web
from pydantic import ValidationError

from headrace.errors import ConfigError
from headrace.sandbox.clock import Clock, SteppedClock
from headrace.sandbox.faults import Fault, FaultPlan

Command = Callable[[Mapping[str, Any]], Awaitable[Any]]


class Controlled(Protocol):
    """What a stand-in offers to its control port."""

    clock: Clock
    plan: FaultPlan

    def counted(self) -> Mapping[str, Any]:
        """Everything that was counted."""

    def tables(self) -> Mapping[str, Callable[[], Iterable[bytes]]]:
        """The tables by name, each as pieces of text in a canonical order."""

    def commands(self) -> Mapping[str, Command]:
        """What only this stand-in can do, by path."""

    def configure(self, changes: Mapping[str, Any]) -> None:
        """Change settings. Raises ConfigError."""

    async def reset(self) -> None:
        """Forget everything."""


def control_handler(subject: Controlled) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Answers requests to the control port of `subject`."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await _answer(subject, request)
        except (ConfigError, ValidationError, orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            return _json({"error": str(error)}, 400)

    return answer


async def _answer(subject: Controlled, request: web.BaseRequest) -> web.StreamResponse:
    path = request.path.strip("/")
    if request.method == "GET":
        return await _look(subject, request, path)
    body = orjson.loads(await request.read() or b"{}")
    if request.method == "PUT" and path == "faults":
        subject.plan.install(Fault.model_validate(rule) for rule in body)
    elif request.method != "POST":
        return _json({"error": f"no {request.method} here"}, 405)
    elif path == "reset":
        subject.plan.install(())
        await subject.reset()
    elif path == "configure":
        subject.configure(body)
    elif path == "clock/advance":
        if not isinstance(subject.clock, SteppedClock):
            return _json({"error": "this clock runs by itself"}, 400)
        await subject.clock.advance(float(body["seconds"]))
    elif (command := subject.commands().get(path)) is not None:
        return _json(await command(body))
    else:
        return _json({"error": f"no such command; there are: {', '.join(sorted(subject.commands()))}"}, 404)
    return _json({})


async def _look(subject: Controlled, request: web.BaseRequest, path: str) -> web.StreamResponse:
    if path == "counters":
        return _json(subject.counted())
    if path == "clock":
        return _json({"now": subject.clock.now()})
    if path == "faults":
        return _json([rule.model_dump() for rule in subject.plan.rules])
    tables = subject.tables()
    if path == "tables":
        return _json(sorted(tables))
    name = path.removeprefix("tables/")
    if name not in tables:
        return _json({"error": "there is nothing of that name"}, 404)
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    async for piece in _gathered(tables[name]()):
        await response.write(piece)
    await response.write_eof()
    return response


async def _gathered(pieces: Iterable[bytes], size: int = 1 << 20) -> AsyncIterator[bytes]:
    """The pieces in larger ones: a write for each line would be slow."""
    kept = bytearray()
    for piece in pieces:
        kept += piece
        if len(kept) >= size:
            yield bytes(kept)
            kept.clear()
    if kept:
        yield bytes(kept)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
