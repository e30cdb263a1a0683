"""The stage's wiring: rows of schools files in, confirmed districts and schools and receipts out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import structlog
from pyroaring import BitMap64

from headrace import topics
from headrace.codec.records import Record
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.errors import PermanentError
from headrace.events import Covers, EndMarker
from headrace.kafka.clients import Cluster
from headrace.keys import partition_of
from headrace.stage import kill
from headrace.stage.contract import Context, Message, Partition, Stage
from headrace.stage.heartbeat import Heartbeat
from headrace_art.accounting import FilePart, about, covered, open_part
from headrace_art.background import Background
from headrace_art.client import ArtClient, ArtSettings
from headrace_art.client.patience import Patience
from headrace_art.client.timing import SystemTime
from headrace_art.confirmed import Confirmed
from headrace_art.earlier import QUIET_SECONDS, Earlier
from headrace_art.entities.registrar import Cancelled, Coming, Registered, Registrar
from headrace_art.entities.settings import EntitiesSettings
from headrace_art.entity_plan import Action, EntityTwice, Kind, Wanted, plan
from headrace_art.schools import SchoolRow
from headrace_art.topics import ENTITIES, EntitiesDone, Entity

if TYPE_CHECKING:
    from headrace.families import Host

PATIENCE_SECONDS = 600.0
PARENT_CHANGED = "art-parent-changed"
"""Code of held lines: ART has the school under another district, which a person must look at."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Asked:
    """A row that asks for something, and what of it has not failed."""

    message: Message
    line: int
    code: str


@dataclass(slots=True, eq=False)
class _Schools:
    """What one part of a schools file asks for."""

    part: FilePart
    wanted: dict[tuple[Kind, str], Wanted] = field(default_factory=dict)
    rows: dict[tuple[Kind, str], list[_Asked]] = field(default_factory=dict)
    begun: bool = False
    registrar: Registrar | None = None


class Entities(Stage):
    """Registers districts and schools at ART."""

    name: ClassVar[str] = "entities"
    writes: ClassVar[Sequence[topics.Topic]] = (ENTITIES, topics.UPLOAD_ACKS, topics.DEAD_LETTERS, topics.JOBS)

    def __init__(self, settings: EntitiesSettings, art: ArtSettings, cluster: Cluster, dataset: Dataset) -> None:
        self.reads: Sequence[topics.Topic] = (dataset.topic,)  # type: ignore[misc]
        self._settings, self._art, self._cluster, self._dataset = settings, art, cluster, dataset
        self._columns = {column.field: column.name for column in dataset.declaration.columns}
        self._confirmed = Confirmed(cluster)
        self._parts: dict[tuple[int, bytes], _Schools] = {}
        self._results: deque[tuple[_Schools, list[Registered]]] = deque()
        self._failures: deque[BaseException] = deque()
        self._time = SystemTime()
        self._coming = Coming()
        self._background = Background(lambda: ArtClient(art), self._failures.append)

    def setup(self, context: Context) -> None:
        """Start to read what is confirmed, and the thread that speaks to ART."""
        self._context = context
        self._earlier = Earlier(self._cluster, context.group)
        self._heartbeat = Heartbeat(context, self.name)
        self._confirmed.start()
        self._background.start()

    def handle(self, batch: Sequence[Message]) -> None:
        """Collect the rows of each file."""
        by_part: dict[tuple[int, bytes], list[Message]] = {}
        for message in batch:
            if isinstance(message.value, Record | EndMarker):
                by_part.setdefault((message.partition.number, message.value.file), []).append(message)
        for place, messages in by_part.items():
            for message in messages[covered(self._context, messages, place[1]) :]:
                schools = self._parts.get(place)
                if schools is None:
                    schools = self._parts[place] = _Schools(open_part(self._context, message))
                schools.part.touch(message)
                if isinstance(message.value, EndMarker):
                    schools.part.mark(message.value)
                elif isinstance(message.value, Record):
                    self._row(schools, message, message.value)

    def flush(self) -> None:
        """Begin files that are complete, and say what became of those that are done."""
        while self._failures:
            raise self._failures.popleft()
        # One file after the other, or the names of an older one might win.
        busy = {place[0] for place, schools in self._parts.items() if schools.begun}
        for (number, _), schools in self._parts.items():
            if schools.part.ended and number not in busy and self._confirmed.complete:
                if schools.part.unread and not self._earlier.known(schools.part):
                    continue
                schools.begun = True
                busy.add(number)
                self._begin(schools)
        while self._results:
            schools, done = self._results.popleft()
            place = (schools.part.first.partition.number, schools.part.file)
            if self._parts.get(place) is schools:
                self._finish(schools, done)

    def tick(self, now: float) -> None:  # noqa: ARG002 - silence counts, by this machine's clock
        """Begin what repeats a file that is done, though its end does not come; give up those whose end never came."""
        for schools in self._parts.values():
            self._tell(schools)
        limit = self._settings.incomplete_after.total_seconds()
        for place, schools in list(self._parts.items()):
            part, quiet = schools.part, time.monotonic() - schools.part.heard
            if part.ended or schools.begun or quiet < min(QUIET_SECONDS, limit):
                continue
            if self._context.caught_up(part.first.partition) and self._earlier.known(part):
                if part.before:
                    schools.begun = True
                    self._begin(schools)
                elif quiet >= limit:
                    del self._parts[place]
                    part.hand_over(self._context, failed="incomplete")

    def revoked(self, partitions: Sequence[Partition], lost: bool) -> None:  # noqa: ARG002 - nothing is deleted
        """Forget the files of these partitions."""
        numbers = {partition.number for partition in partitions}
        for place in [place for place in self._parts if place[0] in numbers]:
            part = self._parts.pop(place).part
            part.cancelled = True
            self._heartbeat.forget(part.job, part.item)

    def close(self) -> None:
        """Stop the threads."""
        self._background.close()
        self._earlier.close()
        self._confirmed.close()

    def _row(self, schools: _Schools, message: Message, record: Record) -> None:
        if not schools.part.take(record.line):
            return
        try:
            fields = record.fields(self._dataset.readers)
            row = SchoolRow.of({self._columns[name]: value for name, value in fields.items()})
            wanted = plan([row], self._art.state, self._art.district_rule)
            for problem in wanted.problems:
                raise problem
            asked = _Asked(message, record.line, row.key)
            for each in (*wanted.districts, *wanted.institutions):
                place = (each.kind, each.entity_id)
                first = schools.wanted.setdefault(place, each)
                if first != each:
                    what = "name" if first.parent_id == each.parent_id else "district"
                    raise EntityTwice(kind=each.kind, entity_id=each.entity_id, what=what)
                schools.rows.setdefault(place, []).append(asked)
        except PermanentError as error:
            self._dead_letter(schools.part, message, record.line, error)

    def _dead_letter(self, part: FilePart, message: Message, line: int, error: PermanentError) -> None:
        part.settle(line, "dead_lettered", error.code)
        lines = bytes(BitMap64([line]).serialize())
        covers = Covers(outcome="dead_lettered", lines=lines, code=error.code)
        self._context.dead_letter(about(message, part.file), error, covers)

    def _begin(self, schools: _Schools) -> None:
        districts = [each for each in schools.wanted.values() if each.kind == "district"]
        institutions = [each for each in schools.wanted.values() if each.kind == "institution"]
        patience = Patience(self._time, PATIENCE_SECONDS)

        async def work(client: ArtClient) -> None:
            registrar = Registrar(
                client, self._coming, patience, self._time, self._context.may_act,
                lambda each: self._confirmed.entity(each.kind, each.entity_id) is not None,
                self._settings.parent_wait.total_seconds(), lambda: schools.part.cancelled,
            )  # fmt: skip
            schools.registrar = registrar
            try:
                self._results.append((schools, await registrar.register(districts, institutions)))
            except Cancelled:
                return  # another copy does it

        self._background.submit(work)

    def _finish(self, schools: _Schools, done: Sequence[Registered]) -> None:
        """Publish what ART confirmed, then say that this part is done, then the receipt."""
        kill.point("entities.after-art-before-publishing")
        part, now = schools.part, time.time_ns() // 1000
        for registered in done:
            self._settle(schools, registered)
        count = self._cluster.partitions(ENTITIES)
        confirmed = [each for each in done if each.problem is None]
        reaches: dict[str, int] = {}
        left = len(confirmed)
        number = part.first.partition.number

        def say_done() -> None:
            kill.point("entities.after-publishing-before-done")
            event = EntitiesDone(
                job=part.job, file=part.file, partition=number,
                partitions=self._cluster.partitions(self._dataset.topic), reaches=reaches, at=now,
            )  # fmt: skip
            self._context.emit(ENTITIES, (part.file.hex(), str(number)), event, delivered=lambda _: finish())

        def finish() -> None:
            kill.point("entities.after-done-before-receipt")
            place = (number, part.file)
            if self._parts.get(place) is schools:
                del self._parts[place]
                self._tell(schools, last=True)
                part.hand_over(self._context)

        def delivered(place: int, offset: int) -> None:
            nonlocal left
            left -= 1
            reaches[str(place)] = max(reaches.get(str(place), 0), offset + 1)
            if not left:
                say_done()

        for registered in confirmed:
            wanted = registered.wanted
            codes = [asked.code for asked in schools.rows[wanted.kind, wanted.entity_id]]
            entity = Entity(
                kind=wanted.kind, entity_id=wanted.entity_id, name=wanted.name, parent_id=registered.parent_id,
                state=wanted.state, codes=codes if wanted.kind == "institution" else [], job=part.job, file=part.file,
                at=now,
            )  # fmt: skip
            place = partition_of(wanted.entity_id, count)
            self._context.emit(
                ENTITIES, (wanted.entity_id, wanted.kind), entity, partition=place,
                delivered=lambda offset, place=place: delivered(place, offset),  # type: ignore[misc]
            )  # fmt: skip
        if not confirmed:
            say_done()
        log.info(
            "schools file done",
            partition=number,
            created=sum(each.problem is None and each.decision.action is Action.CREATE for each in done),
            renamed=sum(each.decision.action is Action.RENAME for each in done),
            parents_changed=sum(each.decision.parent_changed for each in done),
            refused=sum(each.problem is not None for each in done),
        )

    def _tell(self, schools: _Schools, *, last: bool = False) -> None:
        """How far a part is, for those who wait for the job."""
        part = schools.part
        figures = {
            "rows": len(part.seen), "entities": schools.registrar.done if schools.registrar is not None else 0,
            "entities_total": len(schools.wanted),
        }  # fmt: skip
        self._heartbeat.tell(part.job, part.item, figures, self._dataset.name, last=last)

    def _settle(self, schools: _Schools, registered: Registered) -> None:
        """What became of the rows that asked for it: of a district's row the worse of two."""
        part = schools.part
        for asked in schools.rows[registered.wanted.kind, registered.wanted.entity_id]:
            problem, decision = registered.problem, registered.decision
            dead = part.settled_as(asked.line, "dead_lettered")
            if isinstance(problem, PermanentError):
                if not dead:
                    part.unsettle(asked.line)
                    self._dead_letter(part, asked.message, asked.line, problem)
            elif dead or part.settled_as(asked.line, "held"):
                continue
            elif decision.parent_changed:
                part.unsettle(asked.line)
                part.settle(asked.line, "held", PARENT_CHANGED)
            elif decision.action is Action.NOTHING:
                if not part.settled_as(asked.line, "delivered"):
                    part.settle(asked.line, "unchanged")
            else:
                part.unsettle(asked.line)
                part.settle(asked.line, "delivered")


def service(settings: EntitiesSettings, host: Host) -> Entities:
    """The stage, from its settings and those of `[art]`."""
    datasets = Datasets(host.settings.datasets.folder)
    return Entities(settings, host.shared("art"), host.cluster, datasets.named("art_schools"))
