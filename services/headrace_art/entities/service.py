"""The stage's wiring: rows of schools files in, confirmed districts and schools and receipts out."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import structlog
from pyroaring import BitMap64

from headrace import topics
from headrace.codec import avro
from headrace.codec.records import Record
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.errors import PermanentError
from headrace.events import Covers, EndMarker
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key, partition_of
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
from headrace_art.entities.part import SchoolsPart
from headrace_art.entities.registrar import Cancelled, Registrar, Shared
from headrace_art.entities.settings import EntitiesSettings
from headrace_art.entity_plan import asked
from headrace_art.schools import SchoolRow
from headrace_art.topics import ENTITIES, EntitiesDone

if TYPE_CHECKING:
    from headrace.families import Host

PATIENCE_SECONDS = 600.0

log = structlog.get_logger(__name__)


class Entities(Stage):
    """Registers districts and schools at ART."""

    name: ClassVar[str] = "entities"
    writes: ClassVar[Sequence[topics.Topic]] = (ENTITIES, topics.UPLOAD_ACKS, topics.DEAD_LETTERS, topics.JOBS)

    def __init__(self, settings: EntitiesSettings, art: ArtSettings, cluster: Cluster, dataset: Dataset) -> None:
        self.reads: Sequence[topics.Topic] = (dataset.topic,)  # type: ignore[misc]
        self._settings, self._art, self._cluster, self._dataset = settings, art, cluster, dataset
        self._confirmed = Confirmed(cluster)
        self._parts: dict[tuple[int, bytes], SchoolsPart] = {}
        self._failures: deque[BaseException] = deque()
        self._time = SystemTime()
        self._shared = Shared(art.connections)
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
                    schools = self._parts[place] = SchoolsPart(open_part(self._context, message))
                schools.part.touch(message)
                if isinstance(message.value, EndMarker):
                    schools.part.mark(message.value)
                elif isinstance(message.value, Record):
                    self._row(schools, message, message.value)

    def flush(self) -> None:
        """Begin files that are complete, and say what became of those that are done."""
        while self._failures:
            raise self._failures.popleft()
        busy = self._busy()
        for (number, _), schools in self._parts.items():
            if schools.part.ended and number not in busy and self._confirmed.complete:
                if schools.part.unread and not self._earlier.known(schools.part):
                    continue
                busy.add(number)
                self._begin(schools)
        for schools in list(self._parts.values()):
            if schools.begun:
                self._publish(schools)

    def tick(self, now: float) -> None:  # noqa: ARG002 - silence counts, by this machine's clock
        """Begin what repeats a file that is done, though its end does not come; give up those whose end never came."""
        for schools in list(self._parts.values()):  # what was on its way may end meanwhile
            self._tell(schools)
        busy = self._busy()
        limit = self._settings.incomplete_after.total_seconds()
        for place, schools in list(self._parts.items()):
            number, _ = place
            part, quiet = schools.part, time.monotonic() - schools.part.heard
            if part.ended or schools.begun or quiet < min(QUIET_SECONDS, limit):
                continue
            if self._context.caught_up(part.first.partition) and self._earlier.known(part):
                if part.before:
                    if number not in busy and self._confirmed.complete:
                        busy.add(number)
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

    def _row(self, schools: SchoolsPart, message: Message, record: Record) -> None:
        if not schools.part.take(record.line):
            return
        try:
            row = SchoolRow.of(self._dataset.row(record))
            schools.ask(message, record.line, row.key, asked(row, self._art.state, self._art.district_rule))
        except PermanentError as error:
            self._dead_letter(schools.part, message, record.line, error)

    def _dead_letter(self, part: FilePart, message: Message, line: int, error: PermanentError) -> None:
        part.settle(line, "dead_lettered", error.code)
        lines = bytes(BitMap64([line]).serialize())
        covers = Covers(outcome="dead_lettered", lines=lines, code=error.code)
        self._context.dead_letter(about(message, part.file), error, covers)

    def _busy(self) -> set[int]:
        """The partitions of which a file is under way: one after the other, or the names of an older one might win."""
        return {number for (number, _), schools in self._parts.items() if schools.begun}

    def _begin(self, schools: SchoolsPart) -> None:
        schools.begun = time.time_ns() // 1000
        districts = [each for each in schools.wanted.values() if each.kind == "district"]
        institutions = [each for each in schools.wanted.values() if each.kind == "institution"]
        patience = Patience(self._time, PATIENCE_SECONDS)

        async def work(client: ArtClient) -> None:
            registrar = Registrar(
                client, self._shared, patience, self._time, self._context.may_act,
                lambda each: self._confirmed.entity(each.kind, each.entity_id) is not None,
                self._settings.parent_wait.total_seconds(), lambda: schools.part.cancelled, schools.news.append,
            )  # fmt: skip
            try:
                await registrar.register(districts, institutions)
            except Cancelled:
                return  # another copy does it
            schools.registered = True

        self._background.submit(work)

    def _publish(self, schools: SchoolsPart) -> None:
        """Publish what ART has confirmed meanwhile; after the last of it say that this part is done."""
        if schools.news:
            kill.point("entities.after-art-before-publishing")
        # Asked before the news are taken: after it there are none.
        schools.complete = schools.registered
        by_place: dict[int, list[tuple[bytes, bytes | None]]] = {}
        count = self._cluster.partitions(ENTITIES)
        for registered in schools.take_news():
            key = encode_key((registered.wanted.entity_id, registered.wanted.kind))
            place = partition_of(registered.wanted.entity_id, count)
            by_place.setdefault(place, []).append((key, avro.encode(schools.event(registered))))
        for place, messages in by_place.items():
            schools.publishing += 1
            self._context.emit_all(ENTITIES, place, messages, partial(self._published, schools, place))
        self._end_if_all_is_said(schools)

    def _published(self, schools: SchoolsPart, place: int, offset: int) -> None:
        schools.publishing -= 1
        schools.reaches[str(place)] = max(schools.reaches.get(str(place), 0), offset + 1)
        self._end_if_all_is_said(schools)

    def _end_if_all_is_said(self, schools: SchoolsPart) -> None:
        """Once everything is on the log, say so, and then hand over the receipt."""
        if not schools.complete or schools.publishing or schools.ending or schools.part.cancelled:
            return
        kill.point("entities.after-publishing-before-done")
        schools.ending = True
        part, number = schools.part, schools.part.first.partition.number
        for asked_for, error in schools.settle():
            self._dead_letter(part, asked_for.message, asked_for.line, error)

        def finish() -> None:
            kill.point("entities.after-done-before-receipt")
            place = (number, part.file)
            if self._parts.get(place) is schools:
                del self._parts[place]
                self._tell(schools, last=True)
                part.hand_over(self._context)

        event = EntitiesDone(
            job=part.job, file=part.file, partition=number, partitions=self._cluster.partitions(self._dataset.topic),
            reaches=schools.reaches, at=time.time_ns() // 1000,
        )  # fmt: skip
        self._context.emit(ENTITIES, (part.file.hex(), str(number)), event, delivered=lambda _: finish())
        log.info("schools file done", partition=number, **schools.figures())

    def _tell(self, schools: SchoolsPart, *, last: bool = False) -> None:
        """How far a part is, for those who wait for the job."""
        part = schools.part
        figures = {
            "rows": len(part.seen), "entities": len(schools.done), "entities_total": len(schools.wanted),
        }  # fmt: skip
        self._heartbeat.tell(part.job, part.item, figures, self._dataset.name, last=last)


def service(settings: EntitiesSettings, host: Host) -> Entities:
    """The stage, from its settings and those of `[art]`."""
    datasets = Datasets(host.settings.datasets.folder)
    return Entities(settings, host.shared("art"), host.cluster, datasets.named("art_schools"))
