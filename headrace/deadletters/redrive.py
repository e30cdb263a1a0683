"""Sending dead letters back to where they came from, each once, whatever is killed on the way.

A re-driven message has the original's key, value and carried headers, goes to the partition it came from, and says for
which group it is: other groups skip it. When the broker has it, the decision is written; when that is on the log, the
group's offset may pass. A run that was killed has published what it could not record: the next one finds those by the
coordinates in their headers, records them, and sends the rest. What did go twice, as when two runs meet, is listed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import confluent_kafka

from headrace import deadletter
from headrace.codec import avro
from headrace.deadletters.decisions import read_decisions, receipt
from headrace.deadletters.letters import DeadLetter, Id, read_letters
from headrace.deadletters.progress import Progress, Standing
from headrace.deadletters.survey import Survey, Surveyor
from headrace.errors import PoisonError
from headrace.events import UploadAck
from headrace.kafka.clients import METADATA_SECONDS, Cluster
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now, watermarks
from headrace.stage import kill
from headrace.stage.contract import Version
from headrace.stage.offsets import newest_header
from headrace.topics import UPLOAD_ACKS

COMMIT_SECONDS = 1.0
UNDER_WAY_BYTES = 32 * 1024 * 1024
# Clocks of brokers differ from ours: a killed run is looked for from this much before it says that it began.
CLOCK_MARGIN_MS = 60_000

Report = Callable[[int, int], None]
"""Told how many of how many are done."""


@dataclass
class Redriven:
    """What a run did.

    `sent`: published by it; `found`: published by an earlier run that was killed before it could say so; `twice`: dead
    letters that are more than once where they came from; `refused`: why Kafka did not take them.
    """

    sent: int = 0
    found: int = 0
    twice: list[Id] = field(default_factory=list)
    refused: dict[Id, str] = field(default_factory=dict)
    left: int = 0


class Redrive:
    """One run over what a survey has chosen."""

    def __init__(self, cluster: Cluster, surveyor: Surveyor, report: Report = lambda _done, _total: None) -> None:
        self._cluster = cluster
        self._surveyor = surveyor
        self._report = report
        self._producer = cluster.producer()
        self._reader = cluster.consumer(None, {"enable.partition.eof": True, "isolation.level": "read_uncommitted"})
        self._outcome = Redriven()
        self._published: deque[DeadLetter] = deque()
        self._decided: set[Id] = set()
        self._under_way = 0
        self._next_commit = 0.0

    def run(self, stop: threading.Event | None = None) -> tuple[Survey, Redriven]:
        """Survey, then re-drive what is chosen; with `stop` set, finish what is under way and leave the rest.

        Raises KafkaUnreachable, MissingTopic.
        """
        try:
            with Progress(self._cluster) as progress:
                standing = progress.read()
                survey = self._surveyor.survey(standing)
                if survey.chosen or standing.began is not None:
                    self._run(progress, survey, stop or threading.Event())
                return survey, self._outcome
        finally:
            self._reader.close()

    def _run(self, progress: Progress, survey: Survey, stop: threading.Event) -> None:
        killed_since = survey.standing.began
        began = killed_since or time.time_ns() // 1_000_000
        receipts_from = self._ends_of_receipts()
        progress.commit(Standing(self._lows(survey), began))
        seen: Counter[Id] = Counter()
        if killed_since is not None:
            seen = self._look_for_ours(survey, killed_since)
            self._record_found(survey, seen)
        newest = self._newest_delivered(survey)
        self._send_all(progress, survey, newest, began, stop)
        if killed_since is not None:
            seen = self._look_for_ours(survey, killed_since)
        twice = {letter for letter, count in seen.items() if count > 1}
        # Two runs at the same time record the same letter twice.
        decided = Counter(each.letter for each in read_decisions(self._cluster, receipts_from, self._reader))
        twice |= {letter for letter, count in decided.items() if count > 1}
        self._outcome.twice = sorted(twice)
        self._outcome.left = len(survey.chosen - self._decided)
        progress.commit(Standing(self._lows(survey), None))

    def _send_all(
        self,
        progress: Progress,
        survey: Survey,
        newest: dict[tuple[str, str], Version],
        began: int,
        stop: threading.Event,
    ) -> None:
        total = len(survey.chosen)
        self._next_commit = time.monotonic() + COMMIT_SECONDS
        for letter, raw in read_letters(self._cluster, self._lows(survey), self._reader):
            if letter.id not in survey.chosen or letter.id in self._decided:
                continue
            if stop.is_set():
                break
            self._publish(letter, raw, newest.get((letter.path or "", letter.group)))
            self._turn(0.0)
            while self._under_way > UNDER_WAY_BYTES:
                self._turn(0.05)
            if time.monotonic() >= self._next_commit:
                self._next_commit = time.monotonic() + COMMIT_SECONDS
                progress.commit(Standing(self._lows(survey), began))
                self._report(len(self._decided), total)
        while self._under_way or self._published:
            self._turn(0.05)
        self._producer.flush()
        self._report(len(self._decided), total)

    def _turn(self, seconds: float) -> None:
        """Take in what the broker has answered, and write the decisions on what it has."""
        self._producer.poll(seconds)
        while self._published:
            kill.point("dlq.after-publish-before-decision")
            self._decide(self._published.popleft())

    def _publish(self, letter: DeadLetter, raw: RawMessage, newest: Version | None) -> None:
        headers: list[tuple[str, str | bytes | None]] = [
            *letter.carried,
            (deadletter.REDRIVE_FOR, letter.group.encode()),
            (deadletter.ATTEMPT, str(letter.attempt).encode()),
            (deadletter.FIRST_FAILED, str(letter.first_failed).encode()),
            (deadletter.FIRST_OFFSET, str(_first_offset(letter, raw)).encode()),
            (deadletter.ORIGIN_PARTITION, str(letter.partition).encode()),
            (deadletter.ORIGIN_OFFSET, str(letter.offset).encode()),
        ]
        if newest is not None:
            headers.append((deadletter.NEWEST, newest_header(newest)))
        self._under_way += 1024 + letter.size
        self._produce(
            letter.topic, raw.value(), letter.key, letter.source_partition, partial(self._answered, letter), headers
        )

    def _decide(self, letter: DeadLetter) -> None:
        key, ack = receipt(self._cluster, letter, "redriven")
        self._under_way += 1024
        self._produce(
            self._cluster.topic_name(UPLOAD_ACKS), avro.encode(ack), key, ack.partition, partial(self._recorded, letter)
        )

    def _produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        answered: Callable[[confluent_kafka.KafkaError | None, confluent_kafka.Message], None],
        headers: list[tuple[str, str | bytes | None]] | None = None,
    ) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, partition=partition, headers=headers, on_delivery=answered)
            except BufferError:
                self._producer.poll(0.05)
                continue
            except confluent_kafka.KafkaException as error:
                # Larger than our own producer takes.
                answered(error.args[0], None)  # type: ignore[arg-type]
            return

    def _answered(
        self, letter: DeadLetter, error: confluent_kafka.KafkaError | None, _message: confluent_kafka.Message
    ) -> None:
        self._under_way -= 1024 + letter.size
        if error is not None:
            self._outcome.refused[letter.id] = error.str()
            return
        self._outcome.sent += 1
        self._published.append(letter)

    def _recorded(
        self, letter: DeadLetter, error: confluent_kafka.KafkaError | None, _message: confluent_kafka.Message
    ) -> None:
        self._under_way -= 1024
        if error is not None:
            self._outcome.refused[letter.id] = f"it went, but that could not be recorded: {error.str()}"
            return
        self._decided.add(letter.id)

    def _lows(self, survey: Survey) -> dict[int, int]:
        """Per partition the first dead letter that is not decided."""
        lows = dict(survey.standing.lows) | survey.ends
        for partition, offsets in survey.undecided.items():
            while offsets and (partition, offsets[0]) in self._decided:
                offsets.popleft()
            if offsets:
                lows[partition] = offsets[0]
        return lows

    def _look_for_ours(self, survey: Survey, since: int) -> Counter[Id]:
        """How often each dead letter was sent back since then, from the coordinates in the messages' headers."""
        found: Counter[Id] = Counter()
        for wire, topic in self._surveyor.topics.items():
            numbers = [number for name, number in survey.sources if name == wire]
            if not numbers:
                continue
            places = [confluent_kafka.TopicPartition(wire, number, since - CLOCK_MARGIN_MS) for number in numbers]
            starts = {
                place.partition: place.offset
                for place in self._reader.offsets_for_times(places, timeout=METADATA_SECONDS)
                if place.offset >= 0
            }
            if not starts:
                continue
            for batch in read_now(self._cluster, topic, starts=starts, consumer=self._reader):
                found.update(origin for raw in batch if (origin := _origin(raw)) is not None)
        return found

    def _record_found(self, survey: Survey, seen: Counter[Id]) -> None:
        undecided = {(number, offset) for number, offsets in survey.undecided.items() for offset in offsets}
        wanted = undecided & seen.keys()
        if not wanted:
            return
        for letter, _ in read_letters(self._cluster, self._lows(survey), self._reader):
            if letter.id in wanted:
                self._decide(letter)
        while self._under_way:
            self._producer.poll(0.05)
        self._outcome.found = len(wanted)

    def _newest_delivered(self, survey: Survey) -> dict[tuple[str, str], Version]:
        """Of each path and group among the chosen whole files, the newest version that the group has delivered."""
        newest: dict[tuple[str, str], Version] = {}
        if not survey.wholes:
            return newest
        for batch in read_now(self._cluster, UPLOAD_ACKS, consumer=self._reader):
            for message in batch:
                key = (message.key() or b"").split(b"/")
                if len(key) != 3:
                    continue
                place = (key[0].decode("ascii", "replace"), key[1].decode("ascii", "replace"))
                if place not in survey.wholes or not message.value():
                    continue
                try:
                    ack = avro.decode(message.value() or b"", UploadAck)
                except PoisonError:
                    continue
                if ack.file is None or not any(part.outcome == "delivered" for part in ack.covers):
                    continue
                version = Version(ack.ctime_ns, ack.first, ack.file)
                if place not in newest or version.newer_than(newest[place]):
                    newest[place] = version
        return newest

    def _ends_of_receipts(self) -> dict[int, int]:
        name = self._cluster.topic_name(UPLOAD_ACKS)
        return {
            number: watermarks(self._cluster, self._reader, name, number)[1]
            for number in range(self._cluster.partitions(UPLOAD_ACKS))
        }


def _first_offset(letter: DeadLetter, raw: RawMessage) -> int:
    return deadletter.first_offset(raw.headers() or (), letter.source_offset)


def _origin(raw: RawMessage) -> Id | None:
    headers = dict(raw.headers() or ())
    partition, offset = headers.get(deadletter.ORIGIN_PARTITION, b""), headers.get(deadletter.ORIGIN_OFFSET, b"")
    return (int(partition), int(offset)) if partition.isdigit() and offset.isdigit() and len(offset) < 20 else None
