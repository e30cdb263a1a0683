"""Confluent framing against confluent-kafka's own serializer and deserializer, and what a registry may say."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import msgspec
import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, record_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from headrace.codec import avro
from headrace.codec.records import decode_record
from headrace.config import KafkaSettings
from headrace.datasets.catalogue import Datasets
from headrace.events import Covers, FileEvent, UploadAck
from headrace.kafka.registry import (
    AvroTopics,
    Registry,
    RegistryLoginRefused,
    RegistrySettingsWrong,
    RegistryUnreachable,
    SchemaRefused,
)
from tests.support.registry import RegistryServer, registry

ACK = UploadAck(
    group="assembler.lab", item="ab" * 16, file=b"f" * 16, partition=2, first=5, last=9,
    covers=[Covers(outcome="delivered", count=1)], where="tree", at=1_700_000_000_000_000,
)  # fmt: skip
SUBJECT = "headrace.UploadAck"
HERE = SerializationContext("upload-acks", MessageField.VALUE)


@pytest.fixture
def client() -> SchemaRegistryClient:
    return SchemaRegistryClient.new_client({"url": "mock://tests"})


@pytest.fixture
def server() -> Iterator[RegistryServer]:
    with registry() as running:
        yield running


def schema_of(name: str) -> dict[str, object]:
    return dict(next(each for each in avro.shipped() if each["name"] == name))


def connected(server: RegistryServer, **settings: object) -> Registry:
    found = Registry.from_settings(KafkaSettings.model_validate({"registry": server.url, **settings}))
    assert found is not None
    return found


def test_what_we_write_is_read_by_confluents_deserializer(client):
    ours = Registry(client, "mock://tests")
    ours.announce(avro.shipped())
    value = ours.outgoing(avro.encode(ACK))
    assert value[0] == 0
    read = AvroDeserializer(client)(value, HERE)
    assert read["item"] == ACK.item
    assert read["file"] == ACK.file
    assert read["covers"][0]["outcome"] == "delivered"
    assert read["at"].year == 2023


def test_what_confluents_serializer_writes_is_read_by_us(client):
    ours = Registry(client, "mock://tests")
    text = json.dumps(schema_of("UploadAck"))
    serialize = AvroSerializer(client, text, conf={"subject.name.strategy": record_subject_name_strategy})
    value = serialize(msgspec.to_builtins(ACK, builtin_types=(bytes,)), HERE)
    assert value is not None
    assert value[0] == 0
    assert avro.decode(ours.incoming(value), UploadAck) == ACK
    assert client.get_subjects() == [SUBJECT]


def test_records_of_a_dataset_keep_their_file_and_line(client):
    ours = Registry(client, "mock://tests")
    dataset = Datasets()["readings"]
    ours.announce([dataset.schema])
    body = b"\x00" + b"f" * 16 + b"\x0e" + b"rest"
    value = ours.outgoing(dataset.header + body)
    assert value[:1] + value[5:] == b"\x00" + body
    record = decode_record(ours.incoming(value), dataset.topic.schemas)
    assert (record.file, record.line) == (b"f" * 16, 7)  # type: ignore[union-attr]


def test_single_objects_are_read_as_before(client):
    value = avro.encode(ACK)
    assert Registry(client, "mock://tests").incoming(value) == value


def test_an_id_that_nobody_knows_is_an_unknown_schema(client):
    value = Registry(client, "mock://tests").incoming(b"\x00\x00\x00\x00\x63body")
    with pytest.raises(avro.UnknownSchema, match="99") as refused:
        avro.decode(value, FileEvent)
    assert refused.value.code == "unknown-schema"


def test_a_schema_of_the_registry_that_this_version_does_not_carry_is_unknown_too(client):
    newer = schema_of("UploadAck")
    newer["fields"] = [*newer["fields"], {"name": "later", "type": "long", "default": 0}]  # type: ignore[misc]
    number = client.register_schema(SUBJECT, Schema(json.dumps(newer), "AVRO"))
    value = Registry(client, "mock://tests").incoming(b"\x00" + number.to_bytes(4, "big") + avro.encode(ACK)[10:])
    with pytest.raises(avro.UnknownSchema):
        avro.decode(value, UploadAck)


def test_a_schema_that_is_no_avro_is_an_unknown_schema(client):
    number = client.register_schema("other", Schema('syntax = "proto3";', "PROTOBUF"))
    value = b"\x00" + number.to_bytes(4, "big") + b"body"
    assert Registry(client, "mock://tests").incoming(value) == value


def test_each_event_is_registered_under_its_full_name_and_kept_backward_compatible(server):
    connected(server).announce(avro.shipped())
    assert SUBJECT in server.holds.subjects
    assert server.holds.levels == dict.fromkeys(server.holds.subjects, "BACKWARD")


def test_a_level_that_somebody_set_and_schemas_that_are_there_are_left_alone(server):
    server.holds.levels[SUBJECT] = "FULL"
    connected(server).announce(avro.shipped())
    assert server.holds.levels[SUBJECT] == "FULL"
    server.holds.requests.clear()
    connected(server).announce(avro.shipped())
    assert all(request.startswith("POST subjects/") for request in server.holds.requests)
    assert not [request for request in server.holds.requests if request.endswith("/versions")]


def test_a_schema_that_the_registry_refuses_names_its_subject(server):
    server.holds.refuses.add(SUBJECT)
    with pytest.raises(SchemaRefused, match=SUBJECT):
        connected(server).announce(avro.shipped())


def test_a_registry_that_is_away_may_come_back(server):
    ours = connected(server)
    server.holds.away = True
    with pytest.raises(RegistryUnreachable, match="Not ready"):
        ours.announce(avro.shipped())
    with pytest.raises(RegistryUnreachable):
        ours.incoming(b"\x00\x00\x00\x00\x01body")
    server.holds.away = False
    ours.announce(avro.shipped())
    value = ours.outgoing(avro.encode(ACK))
    server.stop()
    with pytest.raises(RegistryUnreachable):
        connected(server).incoming(value)
    assert avro.decode(ours.incoming(value), UploadAck) == ACK


def test_a_login_is_sent_and_a_wrong_one_says_which_setting(server):
    server.holds.login = "Basic " + base64.b64encode(b"lab:hush").decode()
    connected(server, registry_login="lab:hush").announce(avro.shipped())
    with pytest.raises(RegistryLoginRefused, match="registry_login") as refused:
        connected(server, registry_login="lab:wrong").announce(avro.shipped())
    assert "wrong" not in str(refused.value)


def test_a_property_that_the_client_does_not_know_is_named(server):
    with pytest.raises(RegistrySettingsWrong, match="speed"):
        connected(server, registry_properties={"speed": "high"})


def test_only_topics_of_events_are_framed():
    topics = AvroTopics("lab.")
    assert topics["lab.files"]
    assert topics["lab.records.readings"]
    for name in ("lab.chunks", "lab.dead-letters", "lab.state.students", "elsewhere", None):
        assert not topics[name]
