"""A stand-in for ART in the test's own event loop, and the simplest way to talk to it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import aiohttp

from headrace.sandbox.clock import Clock
from headrace.sandbox.faults import Fault
from headrace_art.client import ArtSettings
from headrace_art.sandbox.server import ArtSandbox
from headrace_art.sandbox.settings import ArtSandboxSettings

Result = TypeVar("Result")

USER, PASSWORD, OTHER = "loader@example.org", "sandbox", "other@example.org"

QUICK: Mapping[str, Any] = {
    "users": {USER: PASSWORD, OTHER: PASSWORD},
    "latency_ms": 0,
    "publish_us": 0,
    "consume_unchanged": None,
    "consume_changed": None,
    "entity_cache_lag_s": 0,
}

DISTRICT = {
    "entityId": "99001230000000", "entityName": "Riverbend Unified", "nationwideIdentifier": "99001230000000",
    "parentEntityId": "CA", "parentEntityType": "STATE", "stateAbbreviation": "CA",
}  # fmt: skip
SCHOOL = {
    "entityId": "99001230456789", "entityName": "Otter Creek Elementary", "nationwideIdentifier": "99001230456789",
    "parentEntityId": "99001230000000", "parentEntityType": "DISTRICT", "stateAbbreviation": "CA",
}  # fmt: skip


def student(number: int = 1, **changes: Any) -> dict[str, Any]:
    """A student as the reference's example (3.4)."""
    return {
        "ssid": f"77{number:08}", "stateAbbreviation": "CA", "institutionIdentifier": "99001230456789",
        "districtIdentifier": "99001230000000", "firstName": "Noé", "middleName": "", "lastName": "Quintanar",
        "birthDate": "2009-11-30", "externalSsid": f"SB77{number:08}", "gradeLevelWhenAssessed": "03", "sex": "Female",
        "hispanicOrLatino": True, "americanIndianOrAlaskaNative": False, "asian": False,
        "blackOrAfricanAmerican": False, "white": True, "nativeHawaiianOrPacificIsland": False,
        "twoOrMoreRaces": False, "iDEAIndicator": False, "lepStatus": True, "section504Status": False,
        "disadvantageStatus": True, "languageCode": "spa", "elpLevel": "2", "migrantStatus": False,
        "firstEntryDateIntoUsSchool": "2014-08-18", "lepEntryDate": "2014-09-02", "lepExitDate": "",
        "title3ProgramType": None, "primaryDisabilityType": "", **changes,
    }  # fmt: skip


def students(count: int, first: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Several of them."""
    return [student(number, **changes) for number in range(first, first + count)]


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str
    json: Any


class Raw:
    """Speaks plain HTTP to the stand-in, one token for all."""

    def __init__(self, sandbox: ArtSandbox, session: aiohttp.ClientSession) -> None:
        self.sandbox, self.session = sandbox, session
        self.token = ""

    async def log_in(self, user: str = USER, **changes: str) -> Answer:
        """Get a token, and use it from now on."""
        form = {
            "grant_type": "password", "username": user, "password": PASSWORD, "client_id": "headrace",
            "client_secret": "sandbox", **changes,
        }  # fmt: skip
        async with self.session.post(self.sandbox.token_url, data=form) as response:
            answer = Answer(response.status, response.headers, await response.text(), await response.json())
        self.token = answer.json.get("access_token", "")
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        node: int | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request. `path` is below /rest, or a whole address."""
        base = self.sandbox.rest_url if node is None else f"{self.sandbox.node_listeners[node].url}/rest"
        sent = dict(headers or {})
        if (self.token if token is None else token) != "":
            sent["Authorization"] = f"Bearer {self.token if token is None else token}"
        url = path if "://" in path else base + path
        call = self.session.request(method, url, json=body, data=data, headers=sent, allow_redirects=False)
        async with call as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return Answer(response.status, response.headers, text, await response.json() if is_json else None)

    async def post_batch(self, body: Any, **options: Any) -> Answer:
        """Post students."""
        return await self.ask("POST", "/external/student/CA/batch", body, **options)

    async def status(self, posted: Answer) -> Any:
        """The status record of a batch that was posted."""
        return (await self.ask("GET", posted.headers["Location"])).json

    async def finished(self, posted: Answer) -> Any:
        """The status record once everything is processed."""
        while True:
            status = await self.status(posted)
            if status["numProcessed"] == status["numSubmitted"]:
                return status
            await asyncio.sleep(0.005)

    async def entities(self) -> None:
        """Create the district and the school that `student` refers to."""
        assert (await self.ask("POST", "/district", DISTRICT)).status == 201
        assert (await self.ask("POST", "/institution", SCHOOL)).status == 201

    def counted(self, *labels: str) -> float:
        """A counter of the stand-in."""
        return self.sandbox.world.counters.get(*labels)


@contextlib.asynccontextmanager
async def sandbox(
    clock: Clock | None = None, faults: Iterable[Mapping[str, Any]] = (), node_ports: bool = False, **settings: Any
) -> AsyncIterator[ArtSandbox]:
    """A stand-in without latency and limits, except as `settings` say."""
    made = ArtSandbox(
        ArtSandboxSettings.model_validate({**QUICK, **settings}),
        clock,
        node_ports=node_ports,
        faults=[Fault.model_validate(rule) for rule in faults],
    )
    async with made:
        yield made


def with_raw(scenario: Callable[[Raw], Awaitable[Result]], **settings: Any) -> Result:
    """Run a scenario against a new stand-in, logged in."""

    async def run() -> Result:
        async with sandbox(**settings) as served, aiohttp.ClientSession() as session:
            raw = Raw(served, session)
            await raw.log_in()
            return await scenario(raw)

    return asyncio.run(asyncio.wait_for(run(), 30))


def art_settings(served: ArtSandbox, **changes: Any) -> ArtSettings:
    """Settings of a client of this stand-in."""
    values = {
        "url": served.rest_url, "token_url": served.token_url, "username": USER, "password": PASSWORD,
        "client_id": "headrace", "client_secret": "sandbox", **changes,
    }  # fmt: skip
    return ArtSettings.model_validate(values)
