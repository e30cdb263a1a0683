"""Files of personal datasets have a topic of their own, and everything that is promised of files is true of them."""

from __future__ import annotations

import os
from pathlib import Path

import confluent_kafka
import pytest

from headrace.broker import EmbeddedBroker
from headrace.datasets.catalogue import Datasets
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.topics import CHUNKS, CHUNKS_PERSONAL
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from headrace_files.csv_fanout.service import CsvFanout
from headrace_files.csv_fanout.settings import CsvFanoutSettings
from tests.support import records
from tests.support.dead import as_json, headrace
from tests.support.feeding import FedFile, Feeder
from tests.support.feeds import declare
from tests.support.processes import Service
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.sent import events, versions
from tests.support.sftp import FaultySftp
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

HEADER = b"a,b,c\n"
MEBIBYTE = 1024 * 1024


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two datasets of the same form: `people`, which is personal, and `places`."""
    place = tmp_path / "datasets"
    for name, personal in (("people", "true"), ("places", "false")):
        declare(place, name, "abc", rules="shrink = 0.1", extra=f"personal = {personal}")
    return place


@pytest.fixture
def datasets(folder: Path) -> Datasets:
    return Datasets(folder)


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str, datasets: Datasets) -> Cluster:
    # One partition, so that offsets and numbers are the same in both topics.
    made = new_cluster(broker.bootstrap, prefix, partitions=1)
    create_missing(made, [dataset.topic for dataset in datasets.values()])
    return made


@pytest.fixture
def environment(cluster: Cluster, folder: Path, tmp_path: Path) -> dict[str, str]:
    return {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_DATASETS__FOLDER": str(folder),
        "HEADRACE_STATE": str(tmp_path / "state"),
        "HEADRACE_CSV_FANOUT__SINK": "test",
        "HEADRACE_CSV_FANOUT__SESSION_TIMEOUT": "6s",
        "HEADRACE_CSV_FANOUT__SPOOL": str(tmp_path / "spool"),
    }


def rows(count: int) -> bytes:
    return HEADER + b"".join(b"%d,b,c\n" % line for line in range(count))


def personal(name: str, content: bytes, **more: object) -> FedFile:
    return FedFile(name.encode(), content, dataset="people", topic=CHUNKS_PERSONAL, **more)  # type: ignore[arg-type]


def ordinary(name: str, content: bytes, **more: object) -> FedFile:
    return FedFile(name.encode(), content, dataset="places", **more)  # type: ignore[arg-type]


def outcomes(cluster: Cluster, stage: str = "csv_fanout") -> dict[str, tuple[str, str | None]]:
    return {
        ack.item: (ack.covers[0].outcome, ack.covers[0].code) for ack in receipts_on_log(cluster) if stage in ack.group
    }


def on_topic(cluster: Cluster, topic: str) -> list[bytes | None]:
    return [found.content for found in versions(cluster.bootstrap, cluster.settings.prefix, topic).values()]


def test_what_is_fetched_for_a_personal_dataset_is_on_no_other_topic(
    cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    server = FaultySftp(tmp_path / "server")
    try:
        (server.root / "dump.csv").write_bytes(rows(50_000))
        environment["HEADRACE_SFTP_SOURCE__PASSWORD"] = server.password
        code, said = headrace(
            cluster, "fetch", "dump.csv", "--host", "127.0.0.1", "--port", str(server.port), "--user", server.user,
            "--fingerprint", server.fingerprint, "--settle", "100ms", "--dataset", "people", environment=environment,
        )  # fmt: skip
    finally:
        server.stop()
    assert code == 0, said
    assert on_topic(cluster, CHUNKS_PERSONAL.name) == [rows(50_000)]
    assert on_topic(cluster, CHUNKS.name) == []
    (event,) = (each for each in events(cluster.bootstrap, cluster.settings.prefix) if each["state"] == "announced")
    assert event["topic"] == CHUNKS_PERSONAL.name


def test_a_sender_killed_in_a_personal_file_goes_on_where_it_was(
    cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    root = tmp_path / "watched"
    root.mkdir()
    content = os.urandom(40 * MEBIBYTE)
    (root / "dump").write_bytes(content)
    command = ["watch", root, "--source", "lab", "--settle", "0.1", "--dataset", "people"]
    service = Service("watch", tmp_path, command, environment)
    service.start("sender.between-frames:100")
    service.await_point()
    wait_until(lambda: max(event["acked"] for event in events(cluster.bootstrap, cluster.settings.prefix)) > 0)
    service.kill()
    service.start()
    wait_until(lambda: events(cluster.bootstrap, cluster.settings.prefix)[-1]["state"] == "announced", within=30)
    service.stop()
    (version,) = versions(cluster.bootstrap, cluster.settings.prefix, CHUNKS_PERSONAL.name).values()
    assert version.content == content
    assert version.kinds.count("open") == 1
    assert on_topic(cluster, CHUNKS.name) == []


def test_a_source_refuses_a_dataset_that_is_not_declared_since_it_may_be_personal(
    cluster: Cluster, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(rows(1))
    code, said = headrace(cluster, "upload", tmp_path / "file", "--dataset", "unheard-of", environment=environment)
    assert code == 2
    assert "unheard-of" in said
    waiting = ["--dataset", "people", "--wait", "assembled"]
    code, said = headrace(cluster, "upload", tmp_path / "file", *waiting, environment=environment)
    assert (code, "csv_fanout alone" in said) == (2, True)
    assert events(cluster.bootstrap, cluster.settings.prefix) == []


def test_a_fan_out_killed_in_files_of_both_topics_loses_no_line_of_either_and_the_books_balance(
    cluster: Cluster, datasets: Datasets, environment: dict[str, str], tmp_path: Path
) -> None:
    feeder = Feeder(cluster)
    service = Service("fan-out", tmp_path, ["fan-out"], environment)
    people, places = personal("people.csv", rows(9000)), ordinary("places.csv", rows(9001))
    # Receipts of files that end first, at greater offsets of the other topic, must cover nothing of these.
    filler = [ordinary(f"{number}", b"no rows", source="other") for number in range(50)]
    for file in (*filler, places, people):
        feeder.send(file, *([file.whole()] if file in filler else file.frames()[:-1]))
        feeder.flush()
    service.start()
    wait_until(lambda: len(outcomes(cluster)) == 50, within=30)
    service.kill()
    for file in (people, places):
        feeder.send(file, file.frames()[-1])
    for file in (*filler, people, places):
        feeder.announce(file)
    service.start("csv_fanout.in-the-middle-of-publishing:3")
    service.await_point()
    service.kill()
    service.start()
    wait_until(lambda: {people.item, places.item} <= outcomes(cluster).keys(), within=30)
    service.stop()
    for file in (people, places):
        name = file.dataset or ""
        found = records.on_the_log(cluster.bootstrap, cluster.settings.prefix, name, datasets[name].schema)
        assert len(found[file.item].records) == len(file.content.splitlines()) - 1
    with running(Assembler(AssemblerSettings(root=tmp_path / "tree")), cluster):
        wait_until(lambda: len(outcomes(cluster, "assembler")) == 51, within=30)
    assert not (tmp_path / "tree" / "people.csv").exists()
    code, said = headrace(cluster, "verify", "--json", environment=environment)
    books = as_json(said[said.rindex('{"kind":"summary"') :])["groups"]
    assert {group.rpartition(".")[0].rpartition(".")[2]: book["sent"] for group, book in books.items()} == {
        "assembler": 51, "csv_fanout": 52,
    }  # fmt: skip
    assert code == 3, "fifty files of no rows are dead letters"
    assert headrace(cluster, "verify", "people.csv", environment=environment)[0] == 0


def test_a_personal_file_that_was_refused_is_replayed(
    cluster: Cluster, datasets: Datasets, environment: dict[str, str]
) -> None:
    feeder = Feeder(cluster)
    before, after = personal("monday", rows(1000)), personal("tuesday", rows(100))
    stage = CsvFanout(CsvFanoutSettings(spool=None), cluster, datasets)
    with running(stage, cluster):
        for done, file in enumerate((before, after), 1):
            feeder.send(file, *file.frames())
            feeder.announce(file)
            wait_until(lambda done=done: len(outcomes(cluster)) == done, within=30)
    assert outcomes(cluster)[after.item] == ("dead_lettered", "shrunk")
    again = ["replay", "--service", "csv_fanout", "--set", "allow_shrink=true"]
    assert headrace(cluster, *again, "--file", "tuesday", environment=environment)[0] == 0
    assert outcomes(cluster)[after.item] == ("delivered", None)
    code, said = headrace(cluster, *again, "--from", "0", "--dry-run", "--json", environment=environment)
    (told,) = as_json(said)["services"]
    assert (code, told["again"], told["kept"]) == (0, 0, {"intact": 2})
    code, said = headrace(cluster, *again, "--from", "1h", "--to", "0", "--dry-run", "--json", environment=environment)
    assert (code, as_json(said)["services"][0]["kept"]) == (0, {})


def test_a_stopped_fan_out_that_is_replayed_makes_its_personal_files_again(
    cluster: Cluster, datasets: Datasets, environment: dict[str, str]
) -> None:
    feeder = Feeder(cluster)
    stage = CsvFanout(CsvFanoutSettings(spool=None), cluster, datasets)
    files = [ordinary("place", rows(10)), personal("monday", rows(1000)), personal("tuesday", rows(100))]
    with running(stage, cluster):
        for done, file in enumerate(files, 1):
            feeder.send(file, *file.frames())
            feeder.announce(file)
            wait_until(lambda done=done: len(outcomes(cluster)) == done, within=30)
    command = ["replay", "--service", "csv_fanout", "--failed", "--set", "allow_shrink=true", "--json"]
    code, said = headrace(cluster, *command, environment=environment)
    assert (code, as_json(said)["services"][0]["outcomes"]) == (0, {"delivered": 1})
    assert outcomes(cluster)[files[2].item] == ("delivered", None)


def test_frames_of_a_personal_file_that_expired_unread_are_reported_and_no_other_file(
    cluster: Cluster, datasets: Datasets
) -> None:
    feeder = Feeder(cluster)
    gone, fine = personal("gone", rows(3000)), ordinary("fine", rows(3000))
    first = personal("first", rows(1))
    feeder.send(first, first.whole())
    feeder.announce(first)
    with running(CsvFanout(CsvFanoutSettings(spool=None), cluster, datasets), cluster):
        wait_until(lambda: len(outcomes(cluster)) == 1, within=20)
    for file in (gone, fine):
        feeder.send(file, *file.frames())
        feeder.announce(file)
    last = max(feeder.offsets[gone.file])
    place = confluent_kafka.TopicPartition(cluster.topic_name(CHUNKS_PERSONAL), 0, last)
    admin = cluster.admin()
    for future in admin.delete_records([place]).values():
        future.result(10)
    with running(CsvFanout(CsvFanoutSettings(spool=None), cluster, datasets), cluster):
        wait_until(lambda: len(outcomes(cluster)) == 3, within=30)
    assert outcomes(cluster)[gone.item] == ("failed", "expired")
    assert outcomes(cluster)[fine.item] == ("delivered", None)


def test_a_dead_letter_of_a_personal_file_goes_back_to_where_it_came_from(
    cluster: Cluster, datasets: Datasets, environment: dict[str, str]
) -> None:
    feeder = Feeder(cluster)
    file = personal("small", b"x,y\n1,2\n")
    feeder.send(file, file.whole())
    feeder.announce(file)
    with running(CsvFanout(CsvFanoutSettings(spool=None), cluster, datasets), cluster):
        wait_until(lambda: len(outcomes(cluster)) == 1, within=20)
        code, said = headrace(cluster, "dlq", "redrive", "--json", environment=environment)
        assert (code, as_json(said)["chosen"]) in ((0, 1), (3, 1))
        wait_until(lambda: len(receipts_on_log(cluster)) == 3, within=20)
    assert on_topic(cluster, CHUNKS.name) == []
