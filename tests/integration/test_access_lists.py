"""Kafka with access lists: each service does its work with exactly what `headrace topics acl` gives it, and no more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import confluent_kafka
import pytest

from headrace.families import catalogue
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.topics import CHUNKS, FILES
from tests.support.dead import put_aside
from tests.support.feeding import FedFile, Feeder
from tests.support.openmsi import TheirFile, send, their_topic
from tests.support.processes import HEADRACE, Service
from tests.support.secured import Secured, secured
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

SETTINGS = """[assembler]
root = "tree"
sink = "lab"
[directory_source]
root = "in"
settle = "0s"
[openmsi_bridge]
topic = "{prefix}openmsi"
"""
USERS = ("operator", "boss", "assembler", "directory_source", "openmsi_bridge", "monitor", "nurse")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured")) as broker:
        for user in USERS:
            broker.add_user(user)
        yield broker


class Plant:
    """A folder for each user, with the same settings but the login; `operator` may do everything."""

    def __init__(self, kafka: Secured, prefix: str, folder: Path) -> None:
        self.kafka = kafka
        self.prefix = prefix
        self._folder = folder

    def home(self, user: str) -> Path:
        folder = self._folder / user
        if not folder.exists():
            (folder / "in").mkdir(parents=True)
            self.kafka.write_settings(folder, self.prefix, user, "password", SETTINGS.format(prefix=self.prefix))
        return folder

    def run(self, user: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HEADRACE, *arguments], cwd=self.home(user), env={**os.environ, **environment}, capture_output=True,
            text=True, timeout=60, check=False,
        )  # fmt: skip

    def allow(self, *arguments: str) -> str:
        made = self.run("operator", "topics", "acl", *arguments, "--apply")
        assert made.returncode == 0, made.stderr
        return made.stdout

    def service(self, user: str, section: str) -> Service:
        home = self.home(user)
        return Service(section, home, ["run", section], {"HEADRACE_STATE": str(home / "state")})


@pytest.fixture
def plant(kafka: Secured, prefix: str, tmp_path: Path) -> Plant:
    create_missing(Cluster(kafka.with_password("operator", prefix)), catalogue())
    return Plant(kafka, prefix, tmp_path)


def test_a_source_and_an_assembler_work_with_their_access_lists_alone(plant: Plant):
    plant.allow("--service", "assembler", "--service", "directory_source", "--task", "monitor")
    (plant.home("directory_source") / "in" / "file").write_bytes(b"measured" * 100_000)
    services = [plant.service("directory_source", "directory_source"), plant.service("assembler", "assembler")]
    try:
        for service in services:
            service.start()
        copy = plant.home("assembler") / "tree" / "file"
        wait_until(copy.exists, within=30)
        assert copy.read_bytes() == b"measured" * 100_000
        wait_until(lambda: plant.run("monitor", "verify").returncode == 0, within=20, every=0.5)
        for service in services:
            service.stop()
        # A source that starts again reads what it has sent; an assembler goes on from its receipts.
        (plant.home("directory_source") / "in" / "second").write_bytes(b"more")
        for service in services:
            service.start()
        wait_until((plant.home("assembler") / "tree" / "second").exists, within=30)
    finally:
        for service in services:
            service.kill()


def test_the_bridge_may_read_the_topic_of_others_that_its_settings_name(plant: Plant):
    cluster = Cluster(plant.kafka.with_password("operator", plant.prefix))
    send(Feeder(cluster), their_topic(cluster), TheirFile("shot.dat", b"measured" * 1000))
    assert f"Read on topic {plant.prefix}openmsi" in plant.allow("--service", "openmsi_bridge")
    bridge = plant.service("openmsi_bridge", "openmsi_bridge")
    bridge.start()
    try:
        wait_until(lambda: any(read_now(cluster, CHUNKS)), within=20, every=0.5)
    finally:
        bridge.kill()


def test_a_service_is_refused_what_is_not_its_own(plant: Plant):
    plant.allow("--service", "assembler")
    settings = plant.kafka.with_password("assembler", plant.prefix)
    cluster = Cluster(settings)
    for topic in (FILES, CHUNKS):
        assert _produced(cluster, cluster.topic_name(topic)) == confluent_kafka.KafkaError.TOPIC_AUTHORIZATION_FAILED
    letters = plant.run("assembler", "dlq", "list")
    assert letters.returncode == 2
    assert f"the group {plant.prefix}dlq" in letters.stderr
    strange = plant.run("assembler", "run", "assembler", HEADRACE_ASSEMBLER__SINK="theirs")
    assert strange.returncode == 2
    assert f"member of the group {plant.prefix}assembler.theirs" in strange.stderr


def test_the_bodies_of_dead_letters_are_for_those_who_may_read_them(plant: Plant):
    file = FedFile(b"broken", b"of few people's business")
    put_aside(Cluster(plant.kafka.with_password("operator", plant.prefix)), [file], f"{plant.prefix}assembler.lab")
    plant.allow("--task", "monitor")
    refused = plant.run("monitor", "dlq", "list")
    assert refused.returncode == 2
    assert "dead-letters" in refused.stderr
    for task in ("monitor", "dead-letters"):
        plant.allow("--task", task, "--principal", "nurse")
    listed = plant.run("nurse", "dlq", "list")
    assert "test-refused" in listed.stdout, listed.stderr


def test_what_would_be_allowed_is_shown_and_made_once(plant: Plant):
    shown = plant.run("operator", "topics", "acl", "--service", "assembler", "--dry-run").stdout
    assert f"allow User:assembler Read on group {plant.prefix}assembler.lab" in shown
    assert "0 entries to make" not in shown
    assert "entries made" in plant.allow("--service", "assembler")
    assert "0 entries made" in plant.allow("--service", "assembler")
    assert "0 entries to make" in plant.run("operator", "topics", "acl", "--service", "assembler", "--dry-run").stdout


def test_an_operator_may_make_topics_and_is_told_that_access_lists_take_more(plant: Plant):
    plant.allow("--task", "operator", "--principal", "boss")
    assert plant.run("boss", "topics", "apply").returncode == 0
    refused = plant.run("boss", "topics", "acl", "--service", "assembler", "--apply")
    assert refused.returncode == 2
    assert "Alter and Describe on the cluster" in refused.stderr


def test_a_service_without_access_lists_names_the_topic_and_the_command(plant: Plant):
    ended = plant.run("assembler", "run", "assembler")
    assert ended.returncode == 2
    assert "headrace topics acl" in ended.stderr


def _produced(cluster: Cluster, topic: str) -> int | None:
    codes: list[int | None] = []
    producer = cluster.producer()
    producer.produce(
        topic, b"value", b"key", partition=0, on_delivery=lambda error, _: codes.append(error and error.code())
    )
    producer.flush(10)
    return codes[0] if codes else None
