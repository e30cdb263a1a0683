"""Brings about at ART what a schools file asks for: many at once, districts before schools.

Source: reference art 1.8, 3.7, R6.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from headrace.errors import HeadraceError, RefusedError, TransientError
from headrace.stage import kill
from headrace_art.client.art import ArtClient
from headrace_art.client.concurrency import for_each
from headrace_art.client.errors import FieldsRefused
from headrace_art.client.patience import Patience
from headrace_art.client.records import Entity
from headrace_art.client.timing import Time
from headrace_art.entity_plan import Action, Decision, Wanted, decide

_EXISTS = frozenset({"LocalEducationAgencyIdentifier", "InstitutionIdentifier"})
_NO_PARENT = "ParentExternalId"
_PARENT_PAUSE, _LONGEST_PARENT_PAUSE = 0.05, 1.0


class ParentMissing(RefusedError):
    """The {kind} {entity_id} cannot be registered: ART does not know its district {parent_id}. Add its row."""

    code = "art-parent-missing"


class Cancelled(Exception):
    """The file is another copy's by now."""


class Registered(NamedTuple):
    """What became of one of them. `parent_id` is ART's; `problem` is why it is not as wanted."""

    wanted: Wanted
    decision: Decision
    parent_id: str
    problem: HeadraceError | None = None


class Coming:
    """Districts that this process is about to register, in whichever part of the file: their schools wait for them.

    For one event loop.
    """

    def __init__(self) -> None:
        self._done: dict[str, asyncio.Event] = {}

    def announce(self, districts: Iterable[Wanted]) -> None:
        """These will be dealt with."""
        for each in districts:
            self._done.setdefault(each.entity_id, asyncio.Event())

    def settled(self, district: Wanted) -> None:
        """This one is dealt with, well or not."""
        event = self._done.pop(district.entity_id, None)
        if event is not None:
            event.set()

    async def parent_of(self, school: Wanted) -> None:
        """Return when nothing is to be done any more about its district."""
        event = self._done.get(school.parent_id)
        if event is not None:
            await event.wait()


class Registrar:
    """Registers districts and schools.

    Parameters:
        coming: shared by all registrars of this process.
        may_act: whether this process may still change anything.
        known: whether ART has confirmed such an entity before: then it is looked for first, else created first.
        parent_wait: seconds that a school waits for its district.
        cancelled: whether another copy has the file by now.
    """

    def __init__(
        self,
        client: ArtClient,
        coming: Coming,
        patience: Patience,
        time: Time,
        may_act: Callable[[], bool],
        known: Callable[[Wanted], bool],
        parent_wait: float,
        cancelled: Callable[[], bool],
    ) -> None:
        self._client, self._coming, self._patience, self._time = client, coming, patience, time
        self._may_act, self._known, self._parent_wait = may_act, known, parent_wait
        self._cancelled = cancelled
        self.done = 0
        """Of how many it is known what became of them."""

    async def register(self, districts: Sequence[Wanted], institutions: Sequence[Wanted]) -> list[Registered]:
        """Register all. Raises ConfigError for what the operator must mend, Cancelled."""
        done: list[Registered] = []

        async def one(wanted: Wanted) -> None:
            done.append(await self._one(wanted))
            self.done += 1

        async def district(wanted: Wanted) -> None:
            try:
                await one(wanted)
            finally:
                self._coming.settled(wanted)

        async def school(wanted: Wanted) -> None:
            await self._coming.parent_of(wanted)
            await one(wanted)

        self._coming.announce(districts)
        try:
            await for_each(districts, district, self._client.settings.connections)
        finally:
            for each in districts:
                self._coming.settled(each)
        await for_each(institutions, school, self._client.settings.connections)
        return done

    async def _one(self, wanted: Wanted) -> Registered:
        began, pause = self._time.now(), _PARENT_PAUSE
        while True:
            self._check()
            try:
                return await self._patience.run(lambda: self._ensure(wanted))
            except ParentMissing as error:
                if self._time.now() - began >= self._parent_wait:
                    return Registered(wanted, Decision(Action.CREATE, False), wanted.parent_id, error)
                # Another copy is about to register it.
                await self._time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PARENT_PAUSE)
            except RefusedError as error:
                return Registered(wanted, Decision(Action.CREATE, False), wanted.parent_id, error)
            except TransientError:
                await self._time.sleep(1.0)  # an outage longer than patience: the file waits with it

    async def _ensure(self, wanted: Wanted) -> Registered:
        if not self._known(wanted):
            created = await self._create(wanted)
            if created is not None:
                return created
        found = await self._client.find(wanted.kind, wanted.entity_id)
        if found is None:
            created = await self._create(wanted)
            if created is not None:
                return created
            found = await self._client.find(wanted.kind, wanted.entity_id)
        if found is None:
            raise FieldsRefused(endpoint="entity_modify", fields=("entityId",))
        return await self._adjust(wanted, found)

    async def _adjust(self, wanted: Wanted, found: Entity) -> Registered:
        decision = decide(wanted, found.name, found.parent_id)
        if decision.action is Action.RENAME:
            await self._permitted()
            kill.point("entities.before-rename")
            await self._client.replace(wanted.kind, found, {"entityName": wanted.name})
        return Registered(wanted, decision, found.parent_id)

    async def _create(self, wanted: Wanted) -> Registered | None:
        """Create it; None if it is there already."""
        await self._permitted()
        try:
            await self._client.create(wanted.kind, wanted.record)
        except FieldsRefused as error:
            if _EXISTS & set(error.fields):
                return None
            if _NO_PARENT in error.fields:
                raise ParentMissing(kind=wanted.kind, entity_id=wanted.entity_id, parent_id=wanted.parent_id) from error
            raise
        kill.point("entities.between-requests")
        return Registered(wanted, Decision(Action.CREATE, False), wanted.parent_id)

    async def _permitted(self) -> None:
        while not self._may_act():
            self._check()
            await asyncio.sleep(0.1)
        self._check()

    def _check(self) -> None:
        # What another copy has done meanwhile, with a later file perhaps, must not be undone.
        if self._cancelled():
            raise Cancelled
