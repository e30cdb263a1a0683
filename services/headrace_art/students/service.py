"""The stage's wiring: records of students in; students at ART, what is remembered of them, and receipts out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, cast

import structlog
from pyroaring import BitMap64

from headrace import deadletter, topics
from headrace.codec.records import Record
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.errors import PermanentError, TransientError
from headrace.events import Covers, EndMarker
from headrace.kafka.clients import Cluster
from headrace.stage import kill
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace.stage.heartbeat import Heartbeat
from headrace.stage.slots import Slot
from headrace.state.keyed import KeyedState
from headrace_art.accounting import FilePart, about, covered, item_of, open_part
from headrace_art.background import Background
from headrace_art.client import ArtClient, ArtSettings
from headrace_art.client.art import batch_url
from headrace_art.client.timing import SystemTime, Time
from headrace_art.confirmed import Confirmed
from headrace_art.earlier import QUIET_SECONDS, Earlier
from headrace_art.resending import RESEND
from headrace_art.students.batches import DELIVERED, Done, by_part, lines_of
from headrace_art.students.deciding import Decider, Pending
from headrace_art.students.sending import Limits, Sender, Settled
from headrace_art.students.settings import StudentsSettings
from headrace_art.topics import STATE_STUDENTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from headrace.families import Host
    from headrace.observe.metrics import Metrics

log = structlog.get_logger(__name__)

BODY_SHARE = 0.9


class EntitiesNotReady(TransientError):
    """The schools of {job} are not done yet; its students wait for them."""

    code = "entities-not-ready"
    default_retry_after = 0.3
    steady = True


class ArtBusy(TransientError):
    """ART has as many students as it may have; trying again in {retry_after} s."""

    code = "art-busy"
    default_retry_after = 0.2
    steady = True


class Students(Stage):
    """Brings new and changed students to ART."""

    name: ClassVar[str] = "students"
    writes: ClassVar[Sequence[topics.Topic]] = (STATE_STUDENTS, topics.UPLOAD_ACKS, topics.DEAD_LETTERS, topics.JOBS)

    def __init__(
        self,
        settings: StudentsSettings,
        art: ArtSettings,
        cluster: Cluster,
        dataset: Dataset,
        folder: Path,
        metrics: Metrics | None = None,
        clock: Time | None = None,
    ) -> None:
        self.reads: Sequence[topics.Topic] = (dataset.topic,)  # type: ignore[misc]
        self._settings, self._art, self._cluster, self._dataset = settings, art, cluster, dataset
        self._metrics = metrics
        self._time = clock or SystemTime()
        self._confirmed = Confirmed(cluster)
        self._folder = folder
        self._parts: dict[tuple[int, str], FilePart] = {}
        self._queue: list[Pending] = []
        self._queue_bytes = 0
        self._queued_since = 0.0
        self._in_hand = 0
        self._assigned: set[int] = set()
        self._waiting_for: dict[str, float] = {}
        self._results: deque[tuple[Sequence[Done], str | None]] = deque()
        self._failures: deque[BaseException] = deque()
        self._sender: Sender | None = None
        self._background = Background(self._connected, self._failures.append)

    def setup(self, context: Context) -> None:
        """Start to read what is confirmed, and the thread that speaks to ART."""
        self._context = context
        # A cache is one process's: another copy on this machine has another slot.
        self._slot = Slot(self._folder, f"state-{context.group}")
        self._state = KeyedState(self._cluster, STATE_STUDENTS, self._folder / context.group / str(self._slot.number))
        self._state.setup(context)
        self._decider = Decider(self._settings, self._art, self._dataset, self._confirmed.schools, self._state)
        self._earlier = Earlier(self._cluster, context.group)
        self._heartbeat = Heartbeat(context, self.name)
        self._confirmed.start()
        self._background.start()

    def assigned(self, partitions: Sequence[Partition]) -> None:
        """Read what is remembered of their students."""
        self._assigned.update(partition.number for partition in partitions)
        self._state.assigned(partition.number for partition in partitions)
        self._share()

    def handle(self, batch: Sequence[Message]) -> None:
        """Decide what to do with each row."""
        for number in {message.partition.number for message in batch}:
            self._state.require(number)
        self._require_schools(batch)
        if self._in_hand + self._decider.waiting >= self._limit + self._art.batch_students:
            raise ArtBusy
        groups: dict[tuple[int, bytes], list[Message]] = {}
        partition: Partition | None = None
        file: bytes | None = None
        for message in batch:
            value = message.value
            if not isinstance(value, Record | EndMarker):
                continue
            if message.headers and _redriven(message):
                if isinstance(value, Record):
                    # A row that is sent back alone is a part of its own.
                    self._take((message.partition.number, message.item), [message])
                continue
            if message.partition is not partition or value.file != file:
                partition, file = message.partition, value.file
                group = groups.setdefault((partition.number, file), [])
            group.append(message)
        for (number, group_file), messages in groups.items():
            self._take((number, item_of(group_file, number)), messages)

    def flush(self) -> None:
        """Take in results, send what has waited long enough, close what is done."""
        while self._failures:
            raise self._failures.popleft()
        if self._results:
            kill.point("students.after-result-before-state")
        while self._results:
            self._take_in(*self._results.popleft())
        if self._queued_since + self._settings.linger.total_seconds() <= time.monotonic():
            self._submit()
        for place, part in list(self._parts.items()):
            if part.ended and not part.pending:
                self._end(place, part)

    def tick(self, now: float) -> None:  # noqa: ARG002 - silence counts, by this machine's clock
        """Close what repeats a file that is done, give up those whose end never came; move what is confirmed on."""
        self._state.tick()
        limit = self._settings.incomplete_after.total_seconds()
        for place, part in list(self._parts.items()):
            quiet = time.monotonic() - part.heard
            if part.ended or part.pending or quiet < min(QUIET_SECONDS, limit):
                continue
            if self._context.caught_up(part.first.partition) and self._earlier.known(part):
                if part.before:
                    self._close_part(place, part)
                elif quiet >= limit:
                    self._close_part(place, part, failed="incomplete")
        backlog = self._sender.backlog.outstanding if self._sender else 0
        for number, part in enumerate(self._parts.values()):
            # It is all parts' together: one of them tells it.
            self._tell(part, 0 if number else backlog)
        if self._metrics is not None:
            self._metrics.set("students_in_hand", self._in_hand)
            self._metrics.add("students_unknown_grades_total", self._decider.unknown_grades)
            self._decider.unknown_grades = 0
            self._metrics.set("students_backlog", backlog)

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:  # noqa: ARG002 - nothing is deleted
        """Forget the students of these partitions: what is at ART already may stay there."""
        numbers = {partition.number for partition in partitions}
        for place in [place for place in self._parts if place[0] in numbers]:
            part = self._parts.pop(place)
            part.cancelled = True
            self._heartbeat.forget(part.job, part.item)
        self._in_hand -= self._decider.forget(numbers)
        kept = [pending for pending in self._queue if pending.partition not in numbers]
        self._queue = kept
        self._queue_bytes = sum(len(pending.student) for pending in kept)
        self._state.revoked(numbers)
        self._assigned -= numbers
        self._share()

    def close(self) -> None:
        """Stop the threads."""
        self._background.close()
        self._earlier.close()
        self._confirmed.close()
        self._state.close()
        self._slot.release()

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Sender]:
        """The client in its thread, and the sender that uses it."""
        settings = self._settings
        limits = Limits(settings.slow, settings.stall, settings.access_wait)

        def settled(rows: Sequence[Settled], batch_id: str | None) -> None:
            # They are what `_submit` has handed over.
            self._results.append((cast("Sequence[Done]", rows), batch_id))

        async with ArtClient(self._art, time=self._time) as client:
            self._sender = Sender(client, self._time, self._context.may_act, settled, limits, self._limit)
            yield self._sender

    @property
    def _limit(self) -> int:
        """This copy's share of the ceiling."""
        return max(1, self._settings.ceiling * len(self._assigned) // self._cluster.partitions(self._dataset.topic))

    @property
    def _batch(self) -> int:
        """Students that a batch may have now."""
        return self._sender.batch if self._sender is not None else self._art.batch_students

    def _share(self) -> None:
        if self._sender is not None:
            self._sender.backlog.limit = self._limit

    def _require_schools(self, batch: Sequence[Message]) -> None:
        if not self._confirmed.complete:
            raise EntitiesNotReady(job="earlier jobs")
        if self._settings.entities == "last":
            return
        limit = self._settings.entities_wait.total_seconds()
        for job in {message.value.job for message in batch if isinstance(message.value, Record)} - {None}:
            name = str(job)
            if _resent(batch[0]) or self._confirmed.done(name):
                self._waiting_for.pop(name, None)
                continue
            now = time.monotonic()
            since = self._waiting_for.setdefault(name, now)
            if now - since < limit:
                raise EntitiesNotReady(job=name)
            if now - since < limit + 1:
                log.warning("the schools of a job are not done, its students go on without", job=name)

    def _take(self, place: tuple[int, str], messages: Sequence[Message]) -> None:
        value = messages[0].value
        assert isinstance(value, Record | EndMarker)  # noqa: S101 - `handle` has seen to it
        alone = place[1] == messages[0].item
        if alone:
            if self._context.done(messages[0]):
                return
        else:
            messages = messages[covered(self._context, messages, value.file) :]
        if not messages:
            return
        part = self._parts.get(place)
        if part is None:
            if alone:
                first = about(messages[0], value.file)
                self._context.open(first.item, first)
                part = FilePart(value.file, value.job, first, first.offset, name=first.item)
                part.alone(value.line if isinstance(value, Record) else 0)
            else:
                part = open_part(self._context, messages[0])
            self._parts[place] = part
        part.touch(messages[-1])
        rows: list[tuple[Message, Record]] = []
        for message in messages:
            value = message.value
            if isinstance(value, Record):
                rows.append((message, value))
            elif isinstance(value, EndMarker):
                part.mark(value)
        if not part.take_all([record.line for _, record in rows]):
            rows = [(message, record) for message, record in rows if part.take(record.line)]
        try:
            pendings = self._decider.decide(part, rows, forced=_resent(messages[0]))
        except Exception:
            part.give_back(record.line for _, record in rows)
            raise
        self._do(pendings)

    def _do(self, pendings: Sequence[Pending]) -> None:
        """Dead letters at once, what is to be sent into the queue."""
        full, large = min(self._batch, self._limit), self._art.body_limit * BODY_SHARE
        for pending in pendings:
            if pending.problem is not None:
                self._dead_letter(pending, pending.problem)
                continue
            if not self._queue:
                self._queued_since = time.monotonic()
            self._queue.append(pending)
            self._queue_bytes += len(pending.student) + 1
            self._in_hand += 1
            pending.part.pending += 1
            if len(self._queue) >= full or self._queue_bytes >= large:
                self._submit()

    def _submit(self) -> None:
        """Hand to the sender all there is."""
        if self._queue:
            rows, self._queue, self._queue_bytes = self._queue, [], 0
            self._background.submit(lambda sender: sender.send(rows))

    def _take_in(self, rows: Sequence[Done], batch_id: str | None) -> None:
        """Settle rows, and say where ART tells of their batch."""
        told = False
        for part, mine in by_part(rows).items():
            if part.cancelled:
                continue
            self._in_hand -= len(mine)
            part.pending -= len(mine)
            saved = [row for row, problem in mine if problem is None]
            self._decider.confirm(saved)
            lines = lines_of(mine)
            part.settle_all(lines.get(DELIVERED, BitMap64()), "delivered")
            for row, problem in mine:
                if problem is not None:
                    self._dead_letter(row, problem)
            if batch_id is not None:
                part.batches += not told
                told = True
                where, last = batch_url(self._art, batch_id), max(row.message.offset for row, _ in mine)
                part.hand_over_batch(self._context, batch_id, where, lines, last)
            self._do(self._decider.released(row for row, _ in mine))

    def _dead_letter(self, pending: Pending, problem: PermanentError) -> None:
        pending.part.settle(pending.line, "dead_lettered", problem.code)
        if pending.part.name is None and self._context.done(pending.message):
            return  # by a process that died before the part's receipt
        lines = bytes(BitMap64([pending.line]).serialize())
        covers = Covers(outcome="dead_lettered", lines=lines, code=problem.code)
        if pending.part.name is not None:
            self._parts.pop((pending.partition, pending.part.name), None)
        self._context.dead_letter(about(pending.message, pending.part.file), problem, covers)

    def _tell(self, part: FilePart, backlog: int, *, last: bool = False) -> None:
        """How far a part is, for those who wait for the job."""
        figures = {"rows": len(part.seen) - part.pending, "batches": part.batches, "backlog": backlog}
        self._heartbeat.tell(part.job, part.item, figures, self._dataset.name, last=last)

    def _end(self, place: tuple[int, str], part: FilePart) -> None:
        """Everything of a part is here: what waited for a row that did not come is sent, else the receipt goes out."""
        self._do(self._decider.late(part))
        if part.pending or (part.unread and not self._earlier.known(part)):
            return
        kill.point("students.after-state-before-receipt")
        self._close_part(place, part)

    def _close_part(self, place: tuple[int, str], part: FilePart, failed: str | None = None) -> None:
        self._parts.pop(place, None)
        if part.name is None:
            self._tell(part, 0, last=True)
        if self._metrics is not None:
            for each in part.covers():
                self._metrics.add("students_total", each.count, outcome=each.outcome)
        part.hand_over(self._context, failed)


def _resent(message: Message) -> bool:
    return any(name == RESEND for name, _ in message.headers)


def _redriven(message: Message) -> bool:
    """Whether a row was sent back from the dead letters."""
    return any(name == deadletter.REDRIVE_FOR for name, _ in message.headers) and not _resent(message)


def service(settings: StudentsSettings, host: Host) -> Students:
    """The stage, from its settings and those of `[art]`."""
    datasets = Datasets(host.settings.datasets.folder)
    folder = host.settings.state / "students"
    return Students(settings, host.shared("art"), host.cluster, datasets.named("art_students"), folder, host.metrics)
