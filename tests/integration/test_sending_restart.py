"""A sender that is killed goes on where it was: what is repeated is bounded, and nothing is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicPartition

from headrace.broker import EmbeddedBroker
from headrace.kafka.clients import Cluster
from headrace.topics import CHUNKS
from tests.support.processes import Service
from tests.support.running import new_cluster
from tests.support.sent import contents, events, versions
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

MEBIBYTE = 1024 * 1024


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "watched"
    root.mkdir()
    return root


@pytest.fixture
def watch(cluster: Cluster, root: Path) -> Iterator[Service]:
    environment = {"HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap, "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix}
    service = Service("watch", root.parent, ["watch", root, "--source", "lab", "--settle", "0.1"], environment)
    yield service
    service.kill()


def states(cluster: Cluster) -> list[str]:
    return [event["state"] for event in events(cluster.bootstrap, cluster.settings.prefix)]


def wait_for_announcements(cluster: Cluster, count: int, watch: Service) -> None:
    def enough() -> bool:
        watch.check()
        try:
            return states(cluster).count("announced") >= count
        except KafkaException:
            return False  # a broker that has just started

    wait_until(enough, within=60, every=0.2)


def test_a_sender_killed_in_a_large_file_goes_on_and_repeats_at_most_64_mebibytes(
    cluster: Cluster, root: Path, watch: Service
) -> None:
    content = os.urandom(200_000_000)
    (root / "large").write_bytes(content)

    def far_enough() -> bool:
        watch.check()
        acked = [event["acked"] for event in events(cluster.bootstrap, cluster.settings.prefix)]
        return max(acked, default=0) >= 60_000_000

    watch.start("sender.between-frames:600")
    wait_until(far_enough, within=60)
    watch.kill()
    assert "announced" not in states(cluster)
    (before,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    watch.start()
    wait_for_announcements(cluster, 1, watch)
    watch.stop()
    (version,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert version.content == content
    assert version.kinds.count("open") == 1
    assert before.bytes_on_log > 60_000_000
    assert version.bytes_on_log - len(content) <= 64 * MEBIBYTE


@pytest.mark.parametrize(
    "point",
    [
        "sender.after-open",
        "sender.between-frames:20",
        "sender.after-progress-event",
        "sender.after-last-frame-before-announce:6",
    ],
)
def test_wherever_a_sender_is_killed_its_next_start_completes_every_file(
    cluster: Cluster, root: Path, watch: Service, point: str
) -> None:
    files = {b"small-%d" % number: os.urandom(1000 * number) for number in range(10)}
    files |= {b"large-%d" % number: os.urandom(20_000_000) for number in range(2)}
    for path, content in files.items():
        (root / path.decode()).write_bytes(content)
    watch.start(point)
    watch.await_point()
    watch.kill()
    watch.start()
    wait_for_announcements(cluster, len(files), watch)
    watch.stop()
    found = contents(cluster.bootstrap, cluster.settings.prefix)
    assert found == {path: [content] for path, content in files.items()}


def test_a_file_that_changed_after_the_sender_was_killed_in_it_is_closed_and_sent_anew(
    cluster: Cluster, root: Path, watch: Service
) -> None:
    (root / "file").write_bytes(os.urandom(5_000_000))
    watch.start("sender.between-frames:10")
    watch.await_point()
    wait_until(lambda: "sending" in states(cluster))
    watch.kill()
    new = os.urandom(1_000_000)
    (root / "file").write_bytes(new)
    watch.start()
    wait_for_announcements(cluster, 1, watch)
    watch.stop()
    old, changed = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert (old.abort, changed.abort, changed.content) == ("changed", None, new)
    assert states(cluster).count("aborted") == 1


def test_a_file_that_is_gone_after_the_sender_was_killed_in_it_is_closed(
    cluster: Cluster, root: Path, watch: Service
) -> None:
    (root / "file").write_bytes(os.urandom(5_000_000))
    watch.start("sender.between-frames:10")
    watch.await_point()
    wait_until(lambda: "sending" in states(cluster))
    watch.kill()
    (root / "file").unlink()
    watch.start()
    wait_until(lambda: states(cluster)[-1] == "aborted", within=20)
    watch.stop()
    (version,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert version.abort == "vanished"


def test_a_file_whose_beginning_has_expired_is_sent_again_from_its_start(
    cluster: Cluster, root: Path, watch: Service
) -> None:
    content = os.urandom(40_000_000)
    (root / "large").write_bytes(content)
    watch.start("sender.between-frames:100")
    watch.await_point()
    wait_until(lambda: max(event["acked"] for event in events(cluster.bootstrap, cluster.settings.prefix)) > 0)
    watch.kill()
    (before,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    gone = TopicPartition(cluster.topic_name(CHUNKS), *before.partitions, 20)
    admin = cluster.admin()
    for answer in admin.delete_records([gone]).values():
        answer.result(20)
    watch.start()
    wait_for_announcements(cluster, 1, watch)
    watch.stop()
    (version,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert version.kinds.count("open") == 1
    assert version.content == content


def test_a_sender_told_to_stop_in_a_large_file_says_how_far_it_went_and_the_next_repeats_nothing(
    cluster: Cluster, root: Path, watch: Service
) -> None:
    content = os.urandom(300_000_000)
    (root / "large").write_bytes(content)
    (root.parent / "headrace.toml").write_text('[directory_source]\ndrain = "0s"\n')
    watch.start()
    wait_until(lambda: "sending" in states(cluster), within=20)
    watch.stop()
    assert "announced" not in states(cluster)
    watch.start()
    wait_for_announcements(cluster, 1, watch)
    watch.stop()
    (version,) = versions(cluster.bootstrap, cluster.settings.prefix).values()
    assert version.content == content
    assert version.bytes_on_log == len(content)


def test_a_sender_whose_kafka_is_gone_stops_when_told_and_sends_everything_when_it_is_back(
    own_broker: EmbeddedBroker, prefix: str, root: Path
) -> None:
    cluster = new_cluster(own_broker.bootstrap, prefix)
    environment = {"HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap, "HEADRACE_KAFKA__PREFIX": prefix}
    watch = Service("watch", root.parent, ["watch", root, "--source", "lab", "--settle", "0.1"], environment)
    (root / "first").write_bytes(b"1")
    watch.start()
    wait_for_announcements(cluster, 1, watch)
    own_broker.kill()
    (root / "large").write_bytes(os.urandom(3_000_000))
    wait_until(lambda: watch.said("kafka is unwell"), within=20)
    watch.stop(within=20)
    watch.start()
    own_broker.start()
    wait_for_announcements(cluster, 2, watch)
    watch.stop()
    assert contents(cluster.bootstrap, prefix)[b"large"] == [(root / "large").read_bytes()]
