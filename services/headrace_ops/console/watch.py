"""The console's own view of the log: one thread follows it, pages ask the view, and no page waits for Kafka."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import structlog

from headrace.codec import avro
from headrace.deadletters.decisions import decision_of, group_name
from headrace.deadletters.letters import letter_of
from headrace.deadletters.progress import Progress
from headrace.errors import PoisonError, TransientError
from headrace.events import FileEvent, UploadAck
from headrace.jobs.log import words
from headrace.kafka.clients import Cluster
from headrace.kafka.following import Follower, Place
from headrace.kafka.insisting import insist
from headrace.kafka.raw import RawMessage
from headrace.kafka.reading import read_now
from headrace.topics import CHUNK_TOPICS, DEAD_LETTERS, FILES, JOBS, UPLOAD_ACKS, Topic
from headrace_ops.console.flow import Flow, Look
from headrace_ops.console.remembered import DeadLetters, Files, Jobs
from headrace_ops.positions import Positions, Surveyor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.observe.health import Health
    from headrace_ops.console.settings import ConsoleSettings

PATIENCE = 0.2
RECEIPTS_PER_FILE = 3
"""Receipts that are read for each file that is remembered: a file of more groups may lack some of the oldest."""
CLOCK_MARGIN_MS = 60_000
PART = "log"
FOLLOWED = (JOBS, FILES, UPLOAD_ACKS, DEAD_LETTERS)


log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Starts:
    """Where reading begins: `read` by place, and from which offset on receipts are kept, by partition."""

    read: Mapping[Place, int]
    receipts: Mapping[int, int]


class Watch:
    """Follows the log from near its end. `lock` guards everything that pages look at.

    Parameters:
        topics: the catalogue.
    """

    def __init__(self, settings: ConsoleSettings, cluster: Cluster, topics: Sequence[Topic], health: Health) -> None:
        self._settings = settings
        self._cluster = cluster
        self._health = health
        self._deciders = group_name(cluster)
        self._decider_key = f"/{self._deciders}/".encode()
        self._surveyor = Surveyor(cluster, topics, frozenset({self._deciders}))
        self.lock = threading.Lock()
        self.flow = Flow()
        self.files = Files(settings.remember_files)
        self.letters = DeadLetters(settings.remember_dead_letters)
        self.jobs = Jobs()
        self.problem: str | None = "Kafka has not answered yet"
        self.caught_up = False

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set.

        Raises MissingTopic.
        """
        begun = insist(stop, self._begin, self._unwell)
        if begun is None:
            return
        follower, starts = begun
        try:
            next_look = 0.0
            while not stop.is_set():
                batch = follower.poll(PATIENCE)
                with self.lock:
                    for message in batch:
                        self._take(follower.place(message), message, starts)
                    self.caught_up = follower.caught_up
                self._health.beat()
                self._health.progress(PART, sum(follower.positions.values()), 0 if follower.caught_up else 1)
                if time.monotonic() >= next_look:
                    self._look()
                    next_look = time.monotonic() + self._settings.refresh.total_seconds()
        finally:
            follower.close()

    def chunk_positions(self) -> dict[str, dict[str, dict[int, int]]]:
        """Who must have every file of a topic: committed offsets by group and topic. The caller holds the lock."""
        newest = self.flow.newest
        groups = {} if newest is None else newest.positions.groups
        found: dict[str, dict[str, dict[int, int]]] = {}
        for group, committed in groups.items():
            for (topic, number), each in committed.items():
                if topic in CHUNK_TOPICS:
                    found.setdefault(group, {}).setdefault(topic, {})[number] = each.low
        return found

    def _look(self) -> None:
        try:
            positions = self._surveyor.look()
        except TransientError as error:
            log.warning("Kafka does not answer", problem=str(error))
            self._unwell(error)
            return
        with self.lock:
            self.flow.take(Look(time.time(), positions))
            self.problem = None

    def _unwell(self, error: TransientError) -> None:
        with self.lock:
            self.problem = str(error)

    def _take(self, place: Place, message: RawMessage, starts: Starts) -> None:
        topic, value = place[0], message.value() or b""
        if topic == JOBS.name:
            for word in words((message,)):
                self.jobs.take(word)
        elif topic == DEAD_LETTERS.name:
            self.letters.take(letter_of(message))
        elif topic == FILES.name:
            event = _decoded(value, FileEvent)
            if event is not None:
                self.files.take_event(event, message.offset())
        else:
            decided = self._decider_key in (message.key() or b"")
            if decided or message.offset() >= starts.receipts.get(place[1], 0):
                ack = _decoded(value, UploadAck)
                if ack is not None and ack.group == self._deciders:
                    decision = decision_of(ack)
                    if decision is not None:
                        self.letters.take_decision(decision)
                        self.files.take_decision(decision)
                elif ack is not None:
                    self.files.take_receipt(ack)

    def _begin(self) -> tuple[Follower, Starts]:
        positions = self._surveyor.look()
        own = self._settings
        starts: dict[Place, int] = {}
        _near_end(starts, positions, FILES, own.remember_files)
        _near_end(starts, positions, UPLOAD_ACKS, RECEIPTS_PER_FILE * own.remember_files)
        receipts = {place[1]: offset for place, offset in starts.items() if place[0] == UPLOAD_ACKS.name}
        _near_end(starts, positions, DEAD_LETTERS, own.remember_dead_letters)
        with Progress(self._cluster) as progress:
            for number, low in progress.read().lows.items():
                place = (DEAD_LETTERS.name, number)
                starts[place] = max(starts.get(place, 0), min(low, positions.ends.get(place, 0)))
        unread = {
            place[1]: starts[place]
            for place, end in positions.ends.items()
            if place[0] == DEAD_LETTERS.name and starts[place] < end
        }
        if unread:
            # A decision may be anywhere after its letter: there, only the keys are looked at.
            since = self._first_time(unread) - CLOCK_MARGIN_MS
            for place, offset in self._surveyor.offsets_at({UPLOAD_ACKS.name: max(0, since)}).items():
                starts[place] = min(starts.get(place, offset), offset)
        return Follower(self._cluster, FOLLOWED, starts=starts), Starts(starts, receipts)

    def _first_time(self, starts: Mapping[int, int]) -> int:
        """When the first of the dead letters from these offsets on was put aside, milliseconds since the epoch."""
        ends = {number: offset + 1 for number, offset in starts.items()}
        batches = read_now(self._cluster, DEAD_LETTERS, starts=starts, ends=ends)
        return min((message.timestamp()[1] for batch in batches for message in batch), default=0)


def _near_end(starts: dict[Place, int], positions: Positions, topic: Topic, most: int) -> None:
    """Begin so that about `most` messages of a topic are read, as many of each partition."""
    places = [place for place in positions.ends if place[0] == topic.name]
    for place in places:
        starts[place] = max(positions.begins.get(place, 0), positions.ends[place] - max(1, most // len(places)))


EventKind = TypeVar("EventKind", FileEvent, UploadAck)


def _decoded(value: bytes, kind: type[EventKind]) -> EventKind | None:
    try:
        return avro.decode(value, kind)
    except PoisonError:
        return None
