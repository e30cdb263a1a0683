"""Alarms: follows the log, asks the brokers where groups stand, and tells what an operator must look at."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar
from zoneinfo import ZoneInfo

import structlog

from headrace.deadletters.decisions import group_name
from headrace.errors import TransientError
from headrace.events import FileEvent, UploadAck
from headrace.families import catalogue
from headrace.jobs.evidence import evidence_in
from headrace.jobs.log import words
from headrace.kafka.admin import wanted_properties
from headrace.kafka.clients import Cluster
from headrace.kafka.following import Follower, Place
from headrace.kafka.insisting import insist
from headrace.kafka.raw import RawMessage
from headrace.observe.metrics import MetricEntry
from headrace.topics import FILES, JOBS, UPLOAD_ACKS, Topic
from headrace_ops.alarms import rules
from headrace_ops.alarms.board import Board, Notice
from headrace_ops.alarms.rules import Alarm
from headrace_ops.alarms.seen import Seen
from headrace_ops.alarms.settings import AlarmsSettings
from headrace_ops.alarms.webhook import Webhook
from headrace_ops.positions import Positions, Surveyor

if TYPE_CHECKING:
    from headrace.config import Settings
    from headrace.families import Host
    from headrace.observe.health import Health
    from headrace.observe.metrics import Metrics

PATIENCE = 0.2
"""Seconds to wait for what comes onto the log."""
PART = "log"

METRICS = (
    MetricEntry("alarm", "gauge", "1 while an alarm stands, 0 once it has ended.", ("alarm", "about")),
    MetricEntry("alarms_standing", "gauge", "How many alarms stand."),
    MetricEntry("alarms_checked", "gauge", "When it was looked last, in seconds since the epoch."),
    MetricEntry("alarm_notices_total", "counter", "Notices to the webhook, by what became of them.", ("result",)),
)
"""What only the alarms have."""


log = structlog.get_logger(__name__)


class AlarmsService:
    """Looks and tells. Several at once only tell everything several times."""

    name: ClassVar[str] = "alarms"
    writes: ClassVar[Sequence[Topic]] = ()

    def __init__(
        self, settings: AlarmsSettings, shared: Settings, cluster: Cluster, health: Health, metrics: Metrics
    ) -> None:
        self._settings = settings
        self._shared = shared
        self._cluster = cluster
        self._health = health
        self._metrics = metrics
        self._board = Board()
        deciders = group_name(cluster)
        self._seen = Seen(settings.sources, settings.jobs, deciders, settings.dead_letter_window)
        self._topics = catalogue()
        self._surveyor = Surveyor(cluster, self._topics, frozenset({deciders}))
        self._zone = None if settings.timezone is None else ZoneInfo(settings.timezone)
        self._limits = self._retention_limits()
        self._sized = frozenset(topic.name for topic in self._topics if self._kept(topic, "retention.bytes") > 0)
        self._webhook: Webhook | None = None

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set.

        Raises MissingTopic.
        """
        with ExitStack() as held:
            follower = insist(stop, self._follower)
            if follower is None:
                return
            held.callback(follower.close)
            if self._settings.webhook is not None:
                self._webhook = Webhook(
                    self._settings.webhook.get_secret_value(),
                    self._settings.webhook_timeout,
                    self._settings.webhook_patience,
                    lambda result: self._metrics.add("alarm_notices_total", result=result),
                )
                held.callback(self._webhook.close)
            self._follow(follower, stop)

    def _follow(self, follower: Follower, stop: threading.Event) -> None:
        next_look = 0.0
        retention: list[Alarm] = []
        while not stop.is_set():
            for message in follower.poll(PATIENCE):
                self._take(follower.place(message), message)
            self._health.beat()
            self._health.progress(PART, sum(follower.positions.values()), 0 if follower.caught_up else 1)
            if not follower.caught_up or time.monotonic() < next_look:
                continue
            next_look = time.monotonic() + self._settings.check_every.total_seconds()
            try:
                share = self._settings.retention_share
                retention = list(rules.retention(*self._positions(), self._limits, self._sized, share))
            except TransientError as error:
                # What stood before may still stand; nobody can say.
                log.warning("waiting for Kafka", problem=str(error))
            self._look([*self._others(datetime.now(UTC)), *retention])

    def _take(self, place: Place, message: RawMessage) -> None:
        at = datetime.fromtimestamp(message.timestamp()[1] / 1000, UTC)
        if place[0] == JOBS.name:
            for word in words((message,)):
                self._seen.take_word(word)
        elif place[0] == FILES.name:
            event = evidence_in(message, FileEvent)
            if event is not None:
                self._seen.take_event(event, at)
        else:
            ack = evidence_in(message, UploadAck)
            if ack is not None:
                self._seen.take_receipt(ack, at)

    def _others(self, now: datetime) -> Iterator[Alarm]:
        """Everything but what the brokers have to be asked for."""
        own, seen = self._settings, self._seen
        limits = {name: rule.silent_for for name, rule in own.sources.items()}
        yield from rules.silent_sources(limits, seen.last_files, now)
        due = {pattern: rule.due for pattern, rule in own.jobs.items()}
        yield from rules.jobs_overdue(due, seen.jobs(now), now.astimezone(self._zone))
        handled = seen.handled(now)
        yield from rules.dead_letters(own.dead_letter_share, handled, own.dead_letter_window)
        yield from rules.unknown_schemas(handled)
        yield from rules.files_failed(seen.failed(now, own.failed_after, own.failed_for))
        yield from rules.disks_low(own.disk_free, _free(own.disks or [self._shared.state]))

    def _look(self, alarms: Sequence[Alarm]) -> None:
        now = datetime.now(UTC)
        for notice in self._board.update(alarms, now):
            self._tell(notice)
        self._metrics.set("alarms_standing", self._board.standing)
        self._metrics.set("alarms_checked", now.timestamp())

    def _tell(self, notice: Notice) -> None:
        alarm, raised = notice.alarm, notice.event == "raised"
        self._metrics.set("alarm", 1 if raised else 0, alarm=alarm.kind, about=alarm.about)
        write = log.error if raised else log.info
        write(
            "alarm" if raised else "alarm ended",
            alarm=alarm.kind,
            about=alarm.about,
            told=alarm.message,
            since=notice.since.isoformat(timespec="seconds"),
        )
        if self._webhook is not None:
            self._webhook.tell(notice)

    def _positions(self) -> tuple[Positions, Mapping[Place, int]]:
        now = time.time()
        times = {name: int((now - limit.total_seconds()) * 1000) for name, limit in self._limits.items()}
        # Asked first: what comes meanwhile is younger than any limit.
        aged = self._surveyor.offsets_at(times)
        return self._surveyor.look(), aged

    def _retention_limits(self) -> dict[str, timedelta]:
        """How old a message may be that somebody still needs, by topic; topics that keep all have none."""
        limits = {}
        for topic in self._topics:
            kept = self._kept(topic, "retention.ms")
            if kept > 0:
                limits[topic.name] = timedelta(milliseconds=kept) * self._settings.retention_share
        return limits

    def _kept(self, topic: Topic, rule: str) -> int:
        return int(wanted_properties(topic, 1, self._shared.topics)[rule])

    def _follower(self) -> Follower:
        """Reads as far back as any rule looks."""
        own = self._settings
        silent = [rule.silent_for for rule in own.sources.values()]
        back = {
            FILES.name: max([own.failed_for, *silent]),
            UPLOAD_ACKS.name: max(own.failed_for, own.dead_letter_window),
        }
        now = time.time()
        times = {name: int((now - span.total_seconds()) * 1000) for name, span in back.items()}
        starts = self._surveyor.offsets_at(times)
        return Follower(self._cluster, (FILES, UPLOAD_ACKS, JOBS), starts=starts)


def _free(folders: Sequence[Path]) -> dict[str, int]:
    """Free bytes of the disks of some folders; of one that is not there, its nearest parent's."""
    found = {}
    for folder in folders:
        path = folder.absolute()
        nearest = next(parent for parent in (path, *path.parents) if parent.exists())
        found[str(folder)] = shutil.disk_usage(nearest).free
    return found


def service(settings: AlarmsSettings, host: Host) -> AlarmsService:
    """The alarms as their settings say."""
    return AlarmsService(settings, host.settings, host.cluster, host.health, host.metrics)
