"""The endpoints of ART. Source: reference art 3.3."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import orjson

from headrace_art.client.answers import TokenRefused, judge
from headrace_art.client.connection import Answer
from headrace_art.client.errors import AnswerMalformed, LocationMissing, TokenNotTaken
from headrace_art.client.records import BatchStatus, Entity, Unexpected
from headrace_art.client.settings import ArtSettings
from headrace_art.client.timing import SystemTime, Time
from headrace_art.client.tokens import TokenManager
from headrace_art.client.transport import PooledTransport, Transport

Kind = Literal["district", "institution"]

Made = TypeVar("Made")

_BATCH_ID = re.compile(r"[0-9A-Za-z]{1,64}")
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _NOT_FOUND = 200, 201, 202, 204, 404


class ArtClient:
    """Speaks to one ART for one user; an asynchronous context manager, for many calls at once.

    Every call raises one of `errors`: transient ones are for the caller to repeat, with `Patience` or a pause of its
    own. Only a token that was refused is renewed and the call repeated here, once.
    """

    def __init__(self, settings: ArtSettings, *, time: Time | None = None, transport: Transport | None = None) -> None:
        self.settings = settings
        self._own = PooledTransport(settings) if transport is None else None
        self._transport: Transport = transport or self._own  # type: ignore[assignment]
        self._tokens = TokenManager(self._transport, settings, time or SystemTime())
        self._state = quote(settings.state, safe="")
        self._timeout = settings.timeout.total_seconds()

    async def __aenter__(self) -> Self:
        if self._own is not None:
            await self._own.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own is not None:
            await self._own.__aexit__(kind, error, trace)

    async def log_in(self) -> None:
        """Get a token, to see that the credentials are good. Raises CredentialsRefused, ProviderUnwell."""
        await self._tokens.token()

    # Students

    async def post_batch(self, students: Sequence[bytes], may_act: Callable[[], bool] | None = None) -> str:
        """Send many students, each a JSON object already; the id under which the batch is followed.

        ART has only taken them then: whether each is saved, its status tells.
        """
        body = b"[" + b",".join(students) + b"]"
        return await self._submit("POST", "batch_post", body, may_act)

    async def delete_batch(self, ssids: Iterable[str]) -> str:
        """Delete many students; followed as a batch that was posted."""
        body = orjson.dumps([{"ssid": ssid, "stateCode": self.settings.state} for ssid in ssids])
        return await self._submit("DELETE", "batch_delete", body)

    async def batch(self, batch_id: str) -> BatchStatus:
        """How far a batch is. One that ART does not know is ArtFault, as any fault of ART is."""
        answer = await self._call("GET", _batch_path(batch_id), "batch_status", _OK)
        return _made(BatchStatus.of, answer, "batch_status")

    async def post_student(self, student: bytes) -> bool:
        """Save one student, a JSON object, at once; whether it is new."""
        path = f"/external/student/{self._state}"
        answer = await self._call("POST", path, "student_post", _CREATED, _NO_CONTENT, body=student)
        return answer.status == _CREATED

    async def student(self, ssid: str) -> Mapping[str, Any] | None:
        """A student as ART stores it; None if there is none."""
        path = f"/external/student/{self._state}/{quote(ssid, safe='')}"
        answer = await self._call("GET", path, "student_get", _OK, _NOT_FOUND)
        return None if answer.status == _NOT_FOUND else _object(answer, "student_get")

    async def delete_student(self, ssid: str) -> bool:
        """Delete a student, its test status too; whether there was one."""
        path = f"/external/student/{self._state}/{quote(ssid, safe='')}"
        return (await self._call("DELETE", path, "student_delete", _NO_CONTENT, _NOT_FOUND)).status == _NO_CONTENT

    # Districts and institutions

    async def find(self, kind: Kind, entity_id: str) -> Entity | None:
        """The entity with exactly this id in the state, if there is one."""
        query = urlencode({"entityIdExact": entity_id, "stateAbbreviation": self.settings.state})
        answer = await self._call("GET", f"/{kind}?{query}", "entity_read", _OK)
        page = _object(answer, "entity_read")
        found = page.get("searchResults")
        if not isinstance(found, list):
            raise AnswerMalformed(endpoint="entity_read", status=answer.status, problem="no searchResults")
        entities = [_made(Entity.of, answer, "entity_read", each) for each in found]
        return next((each for each in entities if each.entity_id == entity_id), None)

    async def create(self, kind: Kind, record: Mapping[str, Any]) -> Entity:
        """Create one. Raises FieldsRefused for an existing one, or one without a parent."""
        answer = await self._call("POST", f"/{kind}", "entity_modify", _CREATED, body=orjson.dumps(record))
        return _made(Entity.of, answer, "entity_modify")

    async def replace(self, kind: Kind, entity: Entity, changes: Mapping[str, Any]) -> Entity:
        """Store another version of an existing one."""
        body = orjson.dumps({**entity.record, **changes})
        answer = await self._call("PUT", f"/{kind}/{quote(entity.id, safe='')}", "entity_modify", _OK, body=body)
        return _made(Entity.of, answer, "entity_modify")

    # What ART knows

    async def state_exists(self) -> bool:
        """Whether the state is there, which districts need."""
        answer = await self._call("GET", "/states/lookup", "entity_read", _OK)
        return self.settings.state in _strings(answer, "entity_read")

    async def languages(self) -> frozenset[str]:
        """The language codes that ART takes."""
        return frozenset(_strings(await self._call("GET", "/student/languages", "student_get", _OK), "student_get"))

    async def grades(self) -> frozenset[str]:
        """The grades that ART takes."""
        return frozenset(_strings(await self._call("GET", "/student/gradeLevel", "student_get", _OK), "student_get"))

    # How

    async def _submit(self, method: str, endpoint: str, body: bytes, may_act: Callable[[], bool] | None = None) -> str:
        path = f"/external/student/{self._state}/batch"
        timeout = self.settings.batch_timeout.total_seconds()
        answer = await self._call(method, path, endpoint, _ACCEPTED, body=body, timeout=timeout, may_act=may_act)
        # ART's name for itself may be an internal one, so nothing but the id is taken (reference U9).
        batch_id = urlsplit(answer.headers.get("Location", "")).path.rpartition("/")[2]
        if _BATCH_ID.fullmatch(batch_id) is None:
            raise LocationMissing
        return batch_id

    async def _call(
        self,
        method: str,
        path: str,
        endpoint: str,
        *expected: int,
        body: bytes | None = None,
        timeout: float | None = None,
        may_act: Callable[[], bool] | None = None,
    ) -> Answer:
        for _ in range(2):
            token = await self._tokens.token()
            headers = {"Authorization": f"Bearer {token.text}", "Accept": "application/json"}
            if body is not None:
                headers["Content-Type"] = "application/json; charset=UTF-8"
            answer = await self._transport.send(
                method,
                self.settings.url + path,
                headers,
                body,
                self._timeout if timeout is None else timeout,
                may_act,
            )
            problem = judge(answer, endpoint, expected)
            if problem is None:
                return answer
            if not isinstance(problem, TokenRefused):
                raise problem
            self._tokens.refused(token)
        raise TokenNotTaken(endpoint=endpoint)


def batch_url(settings: ArtSettings, batch_id: str) -> str:
    """Where ART tells how far a batch is, to whoever submitted it."""
    return settings.url + _batch_path(batch_id)


def _batch_path(batch_id: str) -> str:
    return f"/external/student/batch/{quote(batch_id, safe='')}"


def _parsed(answer: Answer, endpoint: str) -> Any:
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError as error:
        raise AnswerMalformed(endpoint=endpoint, status=answer.status, problem="it is no JSON") from error


def _object(answer: Answer, endpoint: str) -> Mapping[str, Any]:
    body = _parsed(answer, endpoint)
    if not isinstance(body, dict):
        raise AnswerMalformed(endpoint=endpoint, status=answer.status, problem="an object was expected")
    return body


def _strings(answer: Answer, endpoint: str) -> list[str]:
    body = _parsed(answer, endpoint)
    if not isinstance(body, list):
        raise AnswerMalformed(endpoint=endpoint, status=answer.status, problem="an array was expected")
    return [str(each.get("code", "")) if isinstance(each, dict) else str(each) for each in body]


def _made(make: Callable[[Any], Made], answer: Answer, endpoint: str, body: Any = None) -> Made:
    try:
        return make(_parsed(answer, endpoint) if body is None else body)
    except Unexpected as error:
        raise AnswerMalformed(endpoint=endpoint, status=answer.status, problem=error) from error
