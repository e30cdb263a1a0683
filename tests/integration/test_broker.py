"""The embedded broker as its users see it: data that lasts, starts that can be repeated, faults that say their name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.broker import EmbeddedBroker, free_port
from headrace.broker.errors import BrokerNotStarted, PortTaken
from headrace.broker.process import Record
from headrace.config import KafkaSettings
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.topics import CHUNKS
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    admin = AdminClient({"bootstrap.servers": bootstrap})
    if topic not in admin.list_topics(timeout=10).topics:
        admin.create_topics([NewTopic(topic, 1)])[topic].result(10)
    producer.produce(topic, value)
    assert producer.flush(10) == 0


def values(bootstrap: str, topic: str) -> list[bytes]:
    """Everything in the topic's only partition."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
        consumer.assign([TopicPartition(topic, 0, low)])
        return [bytes(message.value() or b"") for message in consumer.consume(high - low, 10)]
    finally:
        consumer.close()


def test_a_message_survives_an_orderly_stop_and_a_kill(own_broker: EmbeddedBroker) -> None:
    produce(own_broker.bootstrap, "kept", b"first")
    assert own_broker.stop()
    assert not own_broker.status().running
    own_broker.start()
    produce(own_broker.bootstrap, "kept", b"second")
    assert own_broker.kill()
    own_broker.start()
    assert values(own_broker.bootstrap, "kept") == [b"first", b"second"]


def test_a_reset_forgets_everything(own_broker: EmbeddedBroker) -> None:
    produce(own_broker.bootstrap, "forgotten", b"x")
    own_broker.reset()
    own_broker.start()
    assert "forgotten" not in AdminClient({"bootstrap.servers": own_broker.bootstrap}).list_topics(timeout=10).topics


def test_the_first_group_of_a_new_kafka_has_its_partitions_within_seconds(own_broker: EmbeddedBroker) -> None:
    cluster = Cluster(KafkaSettings(bootstrap=own_broker.bootstrap))
    create_missing(cluster, [CHUNKS])
    consumer = cluster.consumer("headrace.first")
    try:
        consumer.subscribe([cluster.topic_name(CHUNKS)])
        # The client looks for a coordinator again after 3 s only, if Kafka had none when it asked first.
        wait_until(lambda: consumer.consume(1, 0.05) or consumer.assignment(), within=2.0)
    finally:
        consumer.close()


def test_starting_twice_changes_nothing(broker: EmbeddedBroker) -> None:
    before = broker.pid
    broker.start()
    assert broker.pid == before


def test_two_starts_at_once_make_one_broker(tmp_path: Path) -> None:
    port = free_port()
    brokers = [EmbeddedBroker(tmp_path, port, fast_start=True) for _ in range(2)]
    threads = [threading.Thread(target=broker.start) for broker in brokers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        assert brokers[0].pid is not None
        assert brokers[0].pid == brokers[1].pid
        assert all(broker.status().answering for broker in brokers)
    finally:
        brokers[0].kill()


def test_another_process_sees_and_stops_it(own_broker: EmbeddedBroker) -> None:
    other = EmbeddedBroker(own_broker.layout.root)
    assert other.bootstrap == own_broker.bootstrap
    program = "import sys; from pathlib import Path; from headrace.broker import EmbeddedBroker\n"
    program += "sys.exit(0 if EmbeddedBroker(Path(sys.argv[1])).stop() else 1)"
    subprocess.run([sys.executable, "-c", program, str(own_broker.layout.root)], check=True, timeout=60)
    assert own_broker.pid is None


@pytest.fixture
def bystander() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of ours and must not be touched."""
    process = subprocess.Popen(["sleep", "300"])
    yield process
    process.kill()
    process.wait()


def test_a_record_that_names_a_foreign_process_is_stale(
    own_broker: EmbeddedBroker, bystander: subprocess.Popen[bytes]
) -> None:
    own_broker.kill()
    Record(bystander.pid, own_broker.port).write(own_broker.layout.record)
    assert own_broker.pid is None
    assert not own_broker.stop()
    assert bystander.poll() is None
    own_broker.start()
    assert own_broker.pid not in (None, bystander.pid)


def test_a_running_broker_is_found_again_when_its_record_is_lost(own_broker: EmbeddedBroker) -> None:
    before = own_broker.pid
    own_broker.layout.record.unlink()
    own_broker.start()
    assert own_broker.pid == before


def test_a_taken_port_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(PortTaken) as raised:
            EmbeddedBroker(tmp_path, port).start()
    assert str(port) in str(raised.value)
    assert f"(process {os.getpid()})" in str(raised.value)


def test_a_broker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path, free_port(), fast_start=True, extra={"num.io.threads": "0"})
    with pytest.raises(BrokerNotStarted, match=r"num\.io\.threads"):
        broker.start()
    assert not broker.status().running


def test_messages_of_two_mebibytes_and_dead_letters_of_twice_that_fit(broker: EmbeddedBroker, prefix: str) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.create_topics([NewTopic(prefix + "large", 1)])[prefix + "large"].result(10)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.max.bytes": 5_000_000})
    failed: list[object] = []
    producer.produce(prefix + "large", bytes(4 * 1024 * 1024), on_delivery=lambda error, _: failed.append(error))
    assert producer.flush(10) == 0
    assert failed == [None]


def test_memory_stays_bounded(broker: EmbeddedBroker) -> None:
    resident = broker.status().resident_bytes
    assert resident is not None
    assert resident < 450_000_000


def test_it_listens_on_the_loopback_address_only(broker: EmbeddedBroker) -> None:
    port = broker.port
    listening = subprocess.run(["cat", "/proc/net/tcp6", "/proc/net/tcp"], capture_output=True, text=True, check=True)
    local = [line.split()[1] for line in listening.stdout.splitlines() if line.split()[3] == "0A"]
    addresses = {address.rpartition(":")[0] for address in local if int(address.rpartition(":")[2], 16) == port}
    assert addresses
    assert all(address.endswith("0100007F") for address in addresses)


def test_a_frozen_broker_is_running_but_not_answering(own_broker: EmbeddedBroker) -> None:
    pid = own_broker.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        status = own_broker.status()
        assert status.running
        assert not status.answering
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until(lambda: own_broker.status().answering)
