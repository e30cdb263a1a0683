"""`headrace topics` and the state of a real Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from headrace.broker import EmbeddedBroker
from headrace.cli import run
from headrace.config import KafkaSettings
from headrace.families import catalogue
from headrace.kafka.admin import create_missing, describe, missing
from headrace.kafka.clients import Cluster
from headrace.topics import CHUNKS, FILES, SPINE

pytestmark = pytest.mark.kafka

Headrace = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return Cluster(KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix))


@pytest.fixture
def headrace(cluster: Cluster, tmp_path, monkeypatch, capsys) -> Headrace:
    """Runs a command line against this test's topics; gives its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_KAFKA__PREFIX", cluster.settings.prefix)

    def _headrace(*arguments: str) -> tuple[int, str, str]:
        code = run(["--bootstrap", cluster.bootstrap, *arguments])
        found = capsys.readouterr()
        return code, found.out, found.err

    return _headrace


def write(cluster: Cluster, name: str) -> None:
    producer = cluster.producer()
    producer.produce(name, b"value", b"key")
    assert producer.flush(10) == 0


def test_apply_creates_every_topic_as_the_catalogue_says_and_then_has_nothing_to_do(headrace, cluster):
    assert headrace("topics", "describe")[0] == 1
    code, out, _ = headrace("topics", "apply")
    assert code == 0
    assert f"create {cluster.topic_name(CHUNKS)}: 6 partitions" in out
    found = describe(cluster, SPINE)
    assert set(found) == {topic.name for topic in SPINE}
    chunks = found["chunks"].properties
    assert chunks["cleanup.policy"] == "delete"
    assert chunks["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert chunks["max.message.bytes"] == str(CHUNKS.max_message_bytes)
    assert chunks["message.timestamp.type"] == "LogAppendTime"
    assert sorted(found["files"].properties["cleanup.policy"].split(",")) == ["compact", "delete"]
    assert headrace("topics", "apply")[1].startswith("0 changes made")
    assert headrace("topics", "describe")[0] == 0


def test_a_dry_run_shows_the_difference_and_changes_nothing(headrace, cluster):
    code, out, _ = headrace("topics", "apply", "--dry-run", "--json")
    assert code == 0
    assert len(json.loads(out)["changes"]) == len(catalogue())
    assert describe(cluster, SPINE) == {}


def test_properties_that_differ_are_set_and_others_are_left_alone(headrace, cluster):
    headrace("topics", "apply")
    name = cluster.topic_name(CHUNKS)
    entries = [
        ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET),
        ConfigEntry("segment.bytes", "2000000", incremental_operation=AlterConfigOpType.SET),
    ]
    resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries)
    admin = cluster.admin()
    for answer in admin.incremental_alter_configs([resource]).values():
        answer.result(10)
    code, out, _ = headrace("topics", "apply")
    assert (code, out.splitlines()[0]) == (0, f"alter {name}: retention.ms 1000 -> 604800000")
    properties = describe(cluster, [CHUNKS])["chunks"].properties
    assert (properties["retention.ms"], properties["segment.bytes"]) == ("604800000", "2000000")


def test_an_operators_retention_wins_over_the_catalogue(headrace, cluster, monkeypatch):
    monkeypatch.setenv("HEADRACE_TOPICS__CHUNKS__RETENTION", "3d")
    monkeypatch.setenv("HEADRACE_TOPICS__CHUNKS__RETENTION_SIZE", "1GiB")
    headrace("topics", "apply")
    properties = describe(cluster, [CHUNKS])["chunks"].properties
    assert (properties["retention.ms"], properties["retention.bytes"]) == (str(3 * 86400 * 1000), str(1 << 30))


def test_settings_for_a_topic_that_does_not_exist_are_refused(headrace, monkeypatch):
    monkeypatch.setenv("HEADRACE_TOPICS__CHUNCKS__RETENTION", "3d")
    code, _, err = headrace("topics", "apply")
    assert code == 2
    assert "[topics.chuncks]" in err
    assert "chunks" in err


def test_the_partitions_of_a_topic_that_holds_data_are_never_changed(headrace, cluster, monkeypatch):
    headrace("topics", "apply")
    write(cluster, cluster.topic_name(FILES))
    monkeypatch.setenv("HEADRACE_KAFKA__PARTITIONS", "12")
    code, _, err = headrace("topics", "apply")
    assert code == 2
    assert cluster.topic_name(FILES) in err
    assert "kafka.partitions = 6" in err
    assert describe(cluster, [CHUNKS])["chunks"].partitions == 6, "another topic was changed before the refusal"


def test_an_empty_topic_is_widened_and_never_narrowed(headrace, cluster, monkeypatch):
    name = cluster.topic_name(CHUNKS)
    admin = cluster.admin()
    for answer in admin.create_topics([NewTopic(name, 3, 1)]).values():
        answer.result(10)
    assert headrace("topics", "apply")[0] == 0
    assert describe(cluster, [CHUNKS])["chunks"].partitions == 6
    monkeypatch.setenv("HEADRACE_KAFKA__PARTITIONS", "3")
    code, _, err = headrace("topics", "apply")
    assert code == 2
    assert "cannot take partitions away" in err


def test_config_check_names_what_is_missing_and_is_content_when_it_is_there(headrace, tmp_path):
    code, out, _ = headrace("config", "check")
    assert code == 1
    assert "FAILED  topics: missing: " in out
    headrace("topics", "apply")
    code, out, _ = headrace("config", "check")
    assert code == 0
    assert "FAILED" not in out


def test_services_that_start_together_may_create_the_same_topics(broker, prefix):
    def create(_number: int) -> None:
        create_missing(Cluster(KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix)), SPINE)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(create, range(6)))
    assert missing(Cluster(KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix)), SPINE) == []
