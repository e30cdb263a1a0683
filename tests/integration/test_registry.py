"""A schema registry over HTTP: what is on the log, who can read it, and what happens while the registry is away."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.config import KafkaSettings
from headrace.kafka.clients import Cluster
from headrace.topics import FILES
from tests.contract.test_catalogue import load_example
from tests.support import oracle
from tests.support.feeding import FedFile, Feeder
from tests.support.processes import HEADRACE, Service
from tests.support.registry import RegistryServer, registry
from tests.support.running import dead_letters, header, new_cluster, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry() as running_server:
        yield running_server


@pytest.fixture
def plain(broker: EmbeddedBroker, prefix: str) -> Cluster:
    """The same topics, without a registry."""
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def home(plain: Cluster, prefix: str, tmp_path: Path) -> Path:
    (tmp_path / "headrace.toml").write_text(
        f'[kafka]\nbootstrap = "{plain.bootstrap}"\nprefix = "{prefix}"\npartitions = 3\n'
        '[assembler]\nroot = "tree"\nsink = "tree"\n'
    )
    return tmp_path


def headrace(home: Path, *arguments: str | Path, registry: str | None) -> subprocess.CompletedProcess[str]:
    more = {} if registry is None else {"HEADRACE_KAFKA__REGISTRY": registry}
    return subprocess.run(
        [HEADRACE, *arguments], cwd=home, env={**os.environ, **more}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def assembler(home: Path, server: RegistryServer) -> Service:
    return Service("assembler", home, ["run", "assembler"], {"HEADRACE_KAFKA__REGISTRY": server.url})


def test_files_sent_with_and_without_a_registry_arrive_and_anybody_can_read_the_events(
    home: Path, server: RegistryServer, plain: Cluster
):
    for name, url in (("before", None), ("after", server.url)):
        (home / name).write_bytes(name.encode() * 1000)
        sent = headrace(home, "upload", home / name, registry=url)
        assert sent.returncode == 0, sent.stderr
    service = assembler(home, server)
    service.start()
    try:
        wait_until(lambda: headrace(home, "verify", registry=server.url).returncode == 0, within=30, every=0.5)
    finally:
        service.kill()
    assert sorted(path.name for path in (home / "tree").glob("[a-z]*")) == ["after", "before"]
    for name in ("files", "upload-acks"):
        values = [message.value() for message in oracle.messages(plain.bootstrap, plain.settings.prefix + name)]
        framed = [value for value in values if value[0] == 0]
        assert framed, name
        read = AvroDeserializer(SchemaRegistryClient.new_client({"url": server.url}))
        for value in framed:
            assert read(value, SerializationContext(name, MessageField.VALUE))
    assert server.holds.levels["headrace.FileEvent"] == "BACKWARD"


def test_a_service_waits_for_a_registry_that_is_away(home: Path, server: RegistryServer):
    server.stop()
    (home / "file").write_bytes(b"content")
    assert headrace(home, "upload", home / "file", registry=None).returncode == 0
    service = assembler(home, server)
    service.start()
    try:
        wait_until(lambda: service.said("schema registry"), within=20)
        server.start()
        wait_until((home / "tree" / "file").exists, within=30)
    finally:
        service.kill()


def test_a_schema_that_the_registry_refuses_ends_the_service_with_what_to_do(home: Path, server: RegistryServer):
    server.holds.refuses.add("headrace.UploadAck")
    ended = headrace(home, "run", "assembler", registry=server.url)
    assert ended.returncode == 2
    assert "headrace.UploadAck" in ended.stderr


def test_the_check_of_the_settings_asks_the_registry_and_writes_nothing_there(home: Path, server: RegistryServer):
    assert f"{server.url} answers" in headrace(home, "config", "check", registry=server.url).stdout
    assert not server.holds.schemas
    server.stop()
    checked = headrace(home, "config", "check", registry=server.url)
    assert checked.returncode == 1
    assert "FAILED  schema registry" in checked.stdout


def test_events_wait_in_order_while_the_registry_that_knows_their_schema_is_away(
    plain: Cluster, server: RegistryServer, tmp_path: Path
):
    cluster = Cluster(KafkaSettings(**plain.settings.model_dump() | {"registry": server.url}))
    feeder = Feeder(plain)
    with running(load_example().Catalogue(tmp_path), cluster):
        first, second, third = (FedFile(b"path", b"x" * size, inode=size) for size in (1, 2, 3))
        partition = feeder.partition(first)

        def feed(file: FedFile, prefix: bytes | None) -> None:
            value = avro.encode(file.event(partition, 0, 0))
            framed = value if prefix is None else prefix + value[avro.HEADER_BYTES :]
            feeder.raw(FILES, framed, file.key, partition)
            feeder.flush()

        def seen() -> set[str]:
            return {path.stem for path in tmp_path.glob("*.json")}

        feed(first, None)
        wait_until(lambda: seen() == {first.item}, within=30)
        server.holds.away = True
        other = next(dict(each) for each in avro.shipped() if each["name"] == "FileEvent") | {"doc": "in other words"}
        number = server.holds.put("headrace.FileEvent", json.dumps(other))
        feed(second, b"\x00" + number.to_bytes(4, "big"))
        feed(third, None)
        wait_until(lambda: f"GET schemas/ids/{number}" in server.holds.requests, within=20)
        assert seen() == {first.item}
        server.holds.away = False
        wait_until(lambda: seen() == {first.item, second.item, third.item}, within=20)
    assert not dead_letters(plain)


def test_an_id_that_the_registry_does_not_know_is_put_aside_as_an_unknown_schema(
    plain: Cluster, server: RegistryServer, tmp_path: Path
):
    cluster = Cluster(KafkaSettings(**plain.settings.model_dump() | {"registry": server.url}))
    feeder = Feeder(plain)
    with running(load_example().Catalogue(tmp_path), cluster):
        file = FedFile(b"path", b"x")
        partition = feeder.partition(file)
        value = b"\x00\x00\x00\x03\xe7" + avro.encode(file.event(partition, 0, 0))[avro.HEADER_BYTES :]
        feeder.raw(FILES, value, file.key, partition)
        feeder.flush()
        (letter,) = wait_until(lambda: dead_letters(plain), within=30)
    assert header(letter, "dlq-error") == "unknown-schema"
    assert letter.value() == value
