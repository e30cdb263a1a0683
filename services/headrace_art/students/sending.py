"""Sends batches of students, follows each to its end, and says of every student what became of it.

Flow control is by backlog: students that ART has taken and not processed stay below a ceiling (reference art R7). What
is refused is bisected (R9), what stalls is sent again (R11), outages are waited for (R8).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

import structlog

from headrace.errors import PermanentError, RefusedError, TransientError
from headrace.stage import kill
from headrace_art.client.art import ArtClient
from headrace_art.client.errors import AnswerLost, ArtFault, LocationMissing
from headrace_art.client.patience import Patience
from headrace_art.client.records import BatchStatus
from headrace_art.client.timing import Time

FIRST_LOOK, LONGEST_LOOK = 0.05, 2.0
"""Seconds between two looks at a batch."""
PATIENCE_SECONDS = 300.0
ACCESS_PAUSE = 3.0
SMALLEST_BATCH = 100
_NOT_YET = ("access denied", "entity.already.exists")

log = structlog.get_logger(__name__)


class StudentRefused(RefusedError):
    """ART has processed the student and refused it. Ask `headrace art check` or ART itself what it holds against it."""

    code = "art-student-refused"


class AccessDenied(RefusedError):
    """ART does not let this user put students into their school or district, not even after {seconds:g} s."""

    code = "art-access-denied"


class Row(Protocol):
    """A student to be sent: its id and its JSON object."""

    @property
    def ssid(self) -> str:
        """ART's id of the student; no two rows that are under way have the same."""

    @property
    def student(self) -> bytes:
        """What is sent."""

    @property
    def cancelled(self) -> bool:
        """Whether it must not be sent any more."""


Settled = tuple[Row, PermanentError | None]
"""A row and what became of it."""


@dataclass(frozen=True)
class Limits:
    """What the sender keeps to; see the settings of the stage."""

    slow: timedelta
    stall: timedelta
    access_wait: timedelta


class Backlog:
    """Students that ART has taken and not processed, as far as is known; kept below `limit`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.outstanding = 0
        self._turn = asyncio.Lock()
        self._freed = asyncio.Event()

    async def take(self, count: int) -> None:
        """Return when so many more fit; what is larger than the limit goes alone. First come, first served."""
        async with self._turn:
            while self.outstanding and self.outstanding + count > self.limit:
                self._freed.clear()
                await self._freed.wait()
            self.outstanding += count

    def add(self, count: int) -> None:
        """So many more are there, whether they fit or not."""
        self.outstanding += count

    def free(self, count: int) -> None:
        """So many are processed."""
        self.outstanding -= count
        self._freed.set()


class Sender:
    """Sends students to one ART. For one event loop.

    Parameters:
        may_act: whether this process may still change anything.
        settled: told of rows what became of each, None or why it never will be there, and of the batch that they went
            in; no batch of a row that ART did not take into any.
        limit: students that may be at ART unprocessed.
    """

    def __init__(
        self,
        client: ArtClient,
        time: Time,
        may_act: Callable[[], bool],
        settled: Callable[[Sequence[Settled], str | None], None],
        limits: Limits,
        limit: int,
    ) -> None:
        self._client, self._time, self._may_act, self._settled = client, time, may_act, settled
        self._limits = limits
        self._patience = Patience(time, PATIENCE_SECONDS)
        self.backlog = Backlog(limit)
        self.batch = client.settings.batch_students
        """Students that a batch may have now."""

    async def send(self, rows: Sequence[Row]) -> None:
        """Bring all of them to ART, or find out why not. Raises ConfigError for what the operator must mend."""
        size = max(1, min(self.batch, self.backlog.limit))
        for start in range(0, len(rows), size):
            await self._send(rows[start : start + size])

    async def _send(self, rows: Sequence[Row]) -> None:
        """Send one batch, its parts if it is refused, and those again that ART does not take yet."""
        under_way: list[Sequence[Row]] = [rows]
        denied: list[Row] = []
        denied_since: float | None = None
        while under_way or denied:
            if not under_way:
                await self._time.sleep(ACCESS_PAUSE)
                under_way, denied = [denied], []
            part = under_way.pop()
            if len(part) > max(1, self.backlog.limit):
                under_way += _halves(part)
                continue
            try:
                sent, status = await self._through(part)
            except RefusedError as error:
                if len(part) == 1:
                    self._settled([(part[0], error)], None)
                else:
                    under_way += _halves(part)
                continue
            failed = _failures(sent, status)
            if failed is None:
                under_way += _halves(sent)
                continue
            not_yet = self._reconcile(sent, failed, status.id)
            if not_yet and denied_since is None:
                denied_since = self._time.now()
            limit = self._limits.access_wait.total_seconds()
            if not_yet and denied_since is not None and self._time.now() - denied_since >= limit:
                self._settled([(row, AccessDenied(seconds=limit)) for row in not_yet], status.id)
            else:
                denied += not_yet

    def _reconcile(self, rows: Sequence[Row], failed: Mapping[str, str], batch_id: str) -> list[Row]:
        """Settle the students of a batch that is done; those that ART may take later.

        Schools that were just created are granted after some seconds, at each node (reference art 3.6).
        """
        denied: list[Row] = []
        settled: list[Settled] = [] if failed else [(row, None) for row in rows]
        for row in rows if failed else ():
            message = failed.get(row.ssid)
            if message is None:
                settled.append((row, None))
            elif any(words in message for words in _NOT_YET):
                denied.append(row)
            else:
                settled.append((row, StudentRefused()))
        if settled:
            self._settled(settled, batch_id)
        return denied

    async def _through(self, rows: Sequence[Row]) -> tuple[Sequence[Row], BatchStatus]:
        """Post rows and follow them, again if they stall; those that were sent, and the status of their batch."""
        await self.backlog.take(len(rows))
        held = _Held(self.backlog, len(rows))
        try:
            while True:
                sent, batch_id = await self._post(rows, held)
                if batch_id is None:
                    return (), BatchStatus("", 0, 0, 0, ())
                kill.point("students.after-post-before-result")
                status = await self._follow(batch_id, held)
                if status is not None:
                    # Under our own name for it: what ART says there is not asked for.
                    return sent, replace(status, id=batch_id)
                log.warning("a batch stalled, its students are sent again", students=len(rows))
                held.restore()
        finally:
            held.release()

    async def _post(self, rows: Sequence[Row], held: _Held) -> tuple[Sequence[Row], str | None]:
        """Post those rows that are still ours; they, and the id of their batch, None if there are none."""

        async def call() -> tuple[Sequence[Row], str | None]:
            while not self._may_act():
                await asyncio.sleep(0.1)
            # What is another copy's by now may be older than what that one has sent.
            ours = [row for row in rows if not row.cancelled]
            if not ours:
                return ours, None
            began = self._time.now()
            kill.point("students.before-post")
            try:
                batch_id = await self._client.post_batch([row.student for row in ours], self._may_act)
            except TransientError as error:
                if isinstance(error, AnswerLost | ArtFault | LocationMissing):
                    # They may be in ART's queue all the same.
                    held.more(len(ours))
                self._slower()
                raise
            if self._time.now() - began > self._limits.slow.total_seconds():
                self._slower()
            else:
                self._faster()
            return ours, batch_id

        while True:
            try:
                return await self._patience.run(call)
            except TransientError as error:
                log.warning("ART is unwell for a long time, still trying", problem=str(error))

    async def _follow(self, batch_id: str, held: _Held) -> BatchStatus | None:
        """Look at a batch until it is done; None if ART does not go on with it."""
        interval = FIRST_LOOK
        looked = progressed = self._time.now()
        processed = 0
        while True:
            await self._time.sleep(interval)
            now = self._time.now()
            try:
                status = await self._client.batch(batch_id)
            except (ArtFault, RefusedError):
                status = None  # also what ART, or a proxy, says of a batch that it does not know
            except TransientError:
                # While nobody answers nothing is known of its progress.
                progressed += self._time.now() - looked
                looked = self._time.now()
                interval = min(interval * 2, LONGEST_LOOK)
                continue
            looked = now
            if status is not None and status.processed > processed:
                held.processed(status.processed - processed)
                rate = (status.processed - processed) / max(now - progressed, 0.001)
                processed, progressed = status.processed, now
                if status.done:
                    return status
                interval = min(max((status.submitted - processed) / rate / 4, FIRST_LOOK), LONGEST_LOOK)
            elif status is not None and status.done:
                return status
            elif now - progressed > self._limits.stall.total_seconds():
                return None
            else:
                interval = min(interval * 1.5, LONGEST_LOOK)

    def _slower(self) -> None:
        self.batch = max(min(SMALLEST_BATCH, self._client.settings.batch_students), self.batch // 2)

    def _faster(self) -> None:
        self.batch = min(self._client.settings.batch_students, self.batch + max(1, self.batch // 4))


class _Held:
    """What one batch, and those that it was sent as before, hold of the backlog."""

    def __init__(self, backlog: Backlog, count: int) -> None:
        self._backlog, self._count = backlog, count
        self._held = count

    def more(self, count: int) -> None:
        """It may be there once more."""
        self._backlog.add(count)
        self._held += count

    def processed(self, count: int) -> None:
        """ART has processed so many."""
        count = min(count, self._held)
        self._held -= count
        self._backlog.free(count)

    def restore(self) -> None:
        """It is sent again from its beginning; what it was sent as before is lost."""
        self._backlog.add(self._count - self._held)
        self._held = self._count

    def release(self) -> None:
        """It is over."""
        self._backlog.free(self._held)
        self._held = 0


def _failures(rows: Sequence[Row], status: BatchStatus) -> Mapping[str, str] | None:
    """What ART says of each student that it refused; None if it cannot be told of whom of them it speaks.

    ART's list is a set, and may name nobody: then the culprits are found by bisecting.
    """
    failed = {failure.ssid: failure.message for failure in status.failures}
    if not failed and not status.failed:
        return failed
    if len(failed) == status.failed and failed.keys() <= {row.ssid for row in rows}:
        return failed
    if len(rows) > 1:
        return None
    return {rows[0].ssid: next(iter(failed.values()), "")} if status.failed and rows else {}


def _halves(rows: Sequence[Row]) -> list[Sequence[Row]]:
    middle = len(rows) // 2
    return [rows[middle:], rows[:middle]]
