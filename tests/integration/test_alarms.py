"""The alarms on real Kafka: raised and ended once each, on the log, as a metric and over HTTP."""

from __future__ import annotations

import datetime
import random
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import confluent_kafka
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from headrace.broker import EmbeddedBroker, free_port
from headrace.codec import avro
from headrace.config import KafkaSettings, Settings, TopicSettings
from headrace.events import Covers, UploadAck
from headrace.jobs.assessment import Wanted
from headrace.jobs.commands import command_for
from headrace.jobs.log import JobWriter
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key
from headrace.observe.health import Health
from headrace.observe.metrics import Metrics
from headrace.topics import CHUNKS, SPINE, UPLOAD_ACKS
from headrace_ops.alarms.service import METRICS, AlarmsService
from headrace_ops.alarms.settings import AlarmsSettings, JobRule, SourceRule
from tests.support.feeding import FedFile, Feeder
from tests.support.ledgers import ledger
from tests.support.receiving import receiving
from tests.support.running import new_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


class Running:
    def __init__(self, cluster: Cluster, tmp_path: Path, topics: dict[str, TopicSettings] | None = None, **own: Any):
        self.metrics = Metrics(METRICS)
        settings = AlarmsSettings(**{"check_every": timedelta(milliseconds=100), "disk_free": 0, **own})
        shared = Settings(state=tmp_path, topics=topics or {})
        self.stopping = threading.Event()
        self.service = AlarmsService(settings, shared, cluster, Health(), self.metrics)
        self.thread = threading.Thread(target=self.service.run, args=(self.stopping,))

    def __enter__(self) -> Running:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def gauge(self, kind: str, about: str) -> float | None:
        return self.metrics.registry.get_sample_value("headrace_alarm", {"alarm": kind, "about": about})

    @property
    def last_look(self) -> float:
        """Seconds since the epoch; 0 before the first."""
        return self.metrics.registry.get_sample_value("headrace_alarms_checked") or 0.0


def settle(feeder: Feeder, cluster: Cluster, file: FedFile, outcome: Any) -> None:
    group = f"{cluster.settings.prefix}assembler.test"
    partition = feeder.partition(file)
    ack = UploadAck(
        group=group, item=file.item, file=file.file, partition=partition, first=0, last=0,
        covers=[Covers(outcome=outcome, code="hash-mismatch")], at=time.time_ns() // 1000,
    )  # fmt: skip
    feeder.raw(UPLOAD_ACKS, avro.encode(ack), encode_key((file.path_id.hex(), group, file.item)), partition)
    feeder.flush()


def test_a_silent_source_is_told_of_once_on_the_log_as_metric_and_over_http_and_so_is_its_end(broker, prefix, tmp_path):
    cluster = new_cluster(broker.bootstrap, prefix)
    with (
        receiving(503) as receiver,
        capture_logs() as logs,
        Running(
            cluster, tmp_path, sources={"lab": SourceRule(silent_for=timedelta(hours=1))},
            webhook=SecretStr(receiver.url),
        ) as alarms,
    ):  # fmt: skip
        wait_until(lambda: alarms.gauge("silent-source", "lab") == 1)
        feeder = Feeder(cluster)
        file = FedFile(b"personal-name.csv", b"x", source="lab")
        feeder.send(file, file.whole())
        feeder.announce(file)
        feeder.flush()
        wait_until(lambda: alarms.gauge("silent-source", "lab") == 0)
        wait_until(lambda: [body["event"] for body in receiver.bodies] == ["raised", "cleared"])
    told = [entry for entry in logs if entry["event"] in ("alarm", "alarm ended")]
    assert [entry["event"] for entry in told] == ["alarm", "alarm ended"]
    assert receiver.url not in str(logs)
    assert "personal" not in str(logs) + str(receiver.bodies)


def test_a_file_that_failed_for_good_and_dead_letters_are_told_of_until_they_are_made_good(broker, prefix, tmp_path):
    cluster = new_cluster(broker.bootstrap, prefix)
    group = f"{prefix}assembler.test"
    feeder = Feeder(cluster)
    bad, dead = FedFile(b"bad", b"x"), FedFile(b"dead", b"x")
    settle(feeder, cluster, bad, "failed")
    settle(feeder, cluster, dead, "dead_lettered")
    window = timedelta(seconds=3)
    with Running(cluster, tmp_path, failed_after=timedelta(0), dead_letter_window=window) as alarms:
        wait_until(lambda: alarms.gauge("file-failed", group) == 1)
        wait_until(lambda: alarms.last_look > 0)
        settle(feeder, cluster, dead, "dead_lettered")
        wait_until(lambda: alarms.gauge("dead-letters", group) == 1)
        settle(feeder, cluster, bad, "delivered")
        wait_until(lambda: alarms.gauge("file-failed", group) == 0)
        wait_until(lambda: alarms.gauge("dead-letters", group) == 0)


def test_a_job_that_is_overdue_and_a_disk_that_is_low_are_told_of_until_the_ledger_says_balanced(
    broker, prefix, tmp_path
):
    cluster = new_cluster(broker.bootstrap, prefix)
    settings = {"jobs": {"nightly-*": JobRule(due=datetime.time(0, 0))}, "timezone": "UTC", "disk_free": 2**62}
    with receiving() as receiver, Running(cluster, tmp_path, webhook=SecretStr(receiver.url), **settings) as alarms:
        wait_until(lambda: alarms.gauge("job-overdue", "nightly-*") == 1)
        wait_until(lambda: alarms.gauge("disk-low", str(tmp_path)) == 1)
        JobWriter(cluster).write(command_for("nightly-1", "upload", Wanted(files=0)))
        with ledger(cluster):
            wait_until(lambda: alarms.gauge("job-overdue", "nightly-*") == 0)
        wait_until(lambda: len(receiver.bodies) == 3)
    told = [(body["event"], body["alarm"]) for body in receiver.bodies]
    assert sorted(told) == [("cleared", "job-overdue"), ("raised", "disk-low"), ("raised", "job-overdue")]


def test_a_group_that_still_needs_what_will_soon_expire_is_told_of(broker, prefix, tmp_path):
    cluster = new_cluster(broker.bootstrap, prefix)
    group = f"{prefix}assembler.test"
    feeder = Feeder(cluster)
    file = FedFile(b"late", b"x" * 9)
    feeder.send(file, file.whole())
    feeder.flush()
    consumer = cluster.consumer(group)
    place = _place(cluster, feeder.partition(file))
    consumer.commit(offsets=[place(0, "pos=1 rcp=0")], asynchronous=False)
    topics = {"chunks": TopicSettings(retention=timedelta(seconds=2))}
    with Running(cluster, tmp_path, topics=topics) as alarms:
        wait_until(lambda: alarms.gauge("retention", f"{group} chunks") == 1)
        consumer.commit(offsets=[place(1, "pos=1 rcp=0")], asynchronous=False)
        wait_until(lambda: alarms.gauge("retention", f"{group} chunks") == 0)
    consumer.close()


def test_a_group_that_still_needs_what_a_limit_of_size_will_soon_delete_is_told_of(tmp_path_factory, prefix, tmp_path):
    often = {
        "log.retention.check.interval.ms": "200",
        "log.initial.task.delay.ms": "200",
        "log.segment.bytes": "1048576",
    }
    broker = EmbeddedBroker(tmp_path_factory.mktemp("small-logs"), free_port(), fast_start=True, extra=often)
    broker.start()
    try:
        topics = {"chunks": TopicSettings(retention_size=3 * 1024**2)}
        cluster = Cluster(KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix, partitions=1))
        create_missing(cluster, SPINE, topics)
        group = f"{prefix}assembler.test"
        feeder = Feeder(cluster)
        consumer = cluster.consumer(group)
        place = _place(cluster, 0)
        with Running(cluster, tmp_path, topics=topics) as alarms:
            _feed_mebibytes(feeder, 2)
            consumer.commit(offsets=[place(0, "pos=0 rcp=0")], asynchronous=False)
            now = time.time()
            wait_until(lambda: alarms.last_look > now + 0.2)
            assert not alarms.gauge("retention", f"{group} chunks")  # nothing is deleted yet, so nothing will be soon
            _feed_mebibytes(feeder, 4)
            wait_until(lambda: alarms.gauge("retention", f"{group} chunks") == 1)
            end = consumer.get_watermark_offsets(place(0, ""), timeout=10)[1]
            consumer.commit(offsets=[place(end - 20, f"pos={end} rcp=0")], asynchronous=False)
            wait_until(lambda: alarms.gauge("retention", f"{group} chunks") == 0)
        consumer.close()
    finally:
        broker.kill()


def _feed_mebibytes(feeder: Feeder, count: int) -> None:
    # Batches that are larger than a segment would be refused.
    for number in range(count):
        file = FedFile(b"%d" % number, random.Random(number).randbytes(1024**2), chunk=16 * 1024)
        feeder.send(file, *file.frames())
        feeder.flush()


def _place(cluster: Cluster, partition: int) -> Any:
    return lambda offset, metadata: confluent_kafka.TopicPartition(
        cluster.topic_name(CHUNKS), partition, offset, metadata=metadata
    )


def test_two_at_once_only_repeat_each_other_and_neither_has_a_consumer_group(broker, prefix, tmp_path):
    cluster = new_cluster(broker.bootstrap, prefix)
    rule = {"lab": SourceRule(silent_for=timedelta(hours=1))}
    with Running(cluster, tmp_path, sources=rule) as first, Running(cluster, tmp_path, sources=rule) as second:
        wait_until(lambda: first.gauge("silent-source", "lab") == second.gauge("silent-source", "lab") == 1)
        listed = cluster.admin().list_consumer_groups(request_timeout=10).result()
        assert not [each.group_id for each in listed.valid if each.group_id.startswith(prefix)]
