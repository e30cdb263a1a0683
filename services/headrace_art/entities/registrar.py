"""Brings about at ART what a schools file asks for: many at once, districts before schools.

Source: reference art 1.8, 3.7, R6.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from headrace.errors import RefusedError, TransientError
from headrace.stage import kill
from headrace_art.client.art import ArtClient
from headrace_art.client.concurrency import Crew, for_each
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
    problem: RefusedError | None = None


class Shared:
    """What the registrars of one process share, for one event loop: workers, and which districts are coming.

    A district that is about to be registered, in whichever part of the file, its schools wait for. So schools have
    workers of their own, or they could hold those that their districts need.

    Parameters:
        workers: requests at once.
    """

    def __init__(self, workers: int) -> None:
        self.districts, self.schools = Crew(workers), Crew(workers)
        self._coming: dict[str, asyncio.Event] = {}
        self._there: set[str] = set()

    def announce(self, districts: Iterable[Wanted]) -> None:
        """These will be dealt with."""
        for each in districts:
            self._coming.setdefault(each.entity_id, asyncio.Event())

    def settled(self, district: Wanted) -> None:
        """This one is dealt with, well or not."""
        event = self._coming.pop(district.entity_id, None)
        if event is not None:
            event.set()

    def there(self, district: Wanted) -> None:
        """This one is at ART."""
        self._there.add(district.entity_id)

    def is_there(self, district_id: str) -> bool:
        """Whether this district is at ART, as far as it is known here."""
        return district_id in self._there

    def is_coming(self, district_id: str) -> bool:
        """Whether this district is about to be dealt with, and nobody knows yet whether it is at ART."""
        return district_id in self._coming and district_id not in self._there

    async def dealt_with(self, district_id: str) -> None:
        """Return when nothing is to be done any more about this district."""
        event = self._coming.get(district_id)
        if event is not None:
            await event.wait()


class Registrar:
    """Registers the districts and schools of one part of a file.

    Parameters:
        shared: by all registrars of this process.
        may_act: whether this process may still change anything.
        known: whether ART has confirmed such an entity before: then it is looked for first, else created first.
        parent_wait: seconds that schools wait for their districts.
        cancelled: whether another copy has the file by now.
        told: what became of each, as soon as it is known; called in the event loop.
    """

    def __init__(
        self,
        client: ArtClient,
        shared: Shared,
        patience: Patience,
        time: Time,
        may_act: Callable[[], bool],
        known: Callable[[Wanted], bool],
        parent_wait: float,
        cancelled: Callable[[], bool],
        told: Callable[[Registered], None],
    ) -> None:
        self._client, self._shared, self._patience, self._time = client, shared, patience, time
        self._may_act, self._known, self._parent_wait = may_act, known, parent_wait
        self._cancelled, self._told = cancelled, told

    async def register(self, districts: Sequence[Wanted], institutions: Sequence[Wanted]) -> None:
        """Register all. Raises ConfigError for what the operator must mend, Cancelled."""
        self._shared.announce(districts)
        try:
            await self._all(districts, self._shared.districts)
        finally:
            for each in districts:
                self._shared.settled(each)
        await self._all(institutions, self._shared.schools)

    async def _all(self, wanted: Sequence[Wanted], crew: Crew) -> None:
        """Register all of a kind. Those without a parent are put off: another copy may be about to register it."""
        orphans: defaultdict[str, list[Wanted]] = defaultdict(list)
        doubtful: list[Wanted] = []

        async def one(each: Wanted) -> None:
            registered = None if self._shared.is_coming(each.parent_id) else await self._one(each)
            if registered is None:
                orphans[each.parent_id].append(each)
                return
            self._told(registered)
            if each.kind == "district":
                if registered.problem is None:
                    self._shared.there(each)
                self._shared.settled(each)

        async def hopeful(each: Wanted) -> None:
            if each.kind == "district" or self._shared.is_there(each.parent_id):
                await one(each)
            else:
                doubtful.append(each)

        # A district in a part that is not complete yet may be announced meanwhile.
        await crew.for_each(wanted, hopeful)
        await self._each(doubtful, crew, one)
        # Only pauses count: what a district takes, or an outage, is no reason to give up the schools of another one.
        waited, pause = 0.0, _PARENT_PAUSE
        while orphans and (waited < self._parent_wait or any(map(self._shared.is_coming, orphans))):
            await self._time.sleep(pause)
            waited += pause
            pause = min(pause * 2, _LONGEST_PARENT_PAUSE)
            before = dict(orphans)
            orphans.clear()
            # One of each parent finds out for all.
            await self._each([group[0] for group in before.values()], crew, one)
            missing = set(orphans)
            for parent in missing:
                orphans[parent] += before[parent][1:]
            others = [each for parent, group in before.items() if parent not in missing for each in group[1:]]
            await self._each(others, crew, one)
        for group in orphans.values():
            for each in group:
                problem = ParentMissing(kind=each.kind, entity_id=each.entity_id, parent_id=each.parent_id)
                self._told(_refused(each, problem))

    async def _each(self, wanted: Sequence[Wanted], crew: Crew, work: Callable[[Wanted], Awaitable[None]]) -> None:
        """Have the crew do it for each. Nobody of it is held by those whose district is about to be dealt with."""
        groups: defaultdict[str, list[Wanted]] = defaultdict(list)
        for each in wanted:
            groups[each.parent_id if self._shared.is_coming(each.parent_id) else ""].append(each)

        async def group(of: tuple[str, Sequence[Wanted]]) -> None:
            await self._shared.dealt_with(of[0])
            await crew.for_each(of[1], work)

        await for_each(groups.items(), group, len(groups))

    async def _one(self, wanted: Wanted) -> Registered | None:
        """Register one; None if ART does not know its parent."""
        while True:
            self._check()
            try:
                return await self._patience.run(lambda: self._ensure(wanted))
            except ParentMissing:
                return None
            except RefusedError as error:
                return _refused(wanted, error)
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


def _refused(wanted: Wanted, error: RefusedError) -> Registered:
    return Registered(wanted, Decision(Action.CREATE, False), wanted.parent_id, error)
