"""Files of OpenMSIStream's layout, bridged, rebuilt and verified on real Kafka; their chunks are written by hand."""

from __future__ import annotations

import json
import random
import time
from datetime import timedelta
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.events import FileEvent
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.stage.contract import Stage
from headrace.topics import FILES, Topic
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from headrace_files.openmsi.topics import NoForeignTopic
from headrace_files.openmsi_bridge.service import OpenmsiBridge
from headrace_files.openmsi_bridge.settings import OpenmsiBridgeSettings
from tests.support.dead import headrace
from tests.support.feeding import Feeder
from tests.support.openmsi import TheirFile, send, their_topic
from tests.support.processes import Service
from tests.support.running import RunningLoop, dead_letters, header, new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def topic(cluster: Cluster) -> Topic:
    return their_topic(cluster)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


def bridge(cluster: Cluster, topic: Topic) -> Stage:
    return OpenmsiBridge(OpenmsiBridgeSettings(topic=topic.name, source="lab"), cluster)


def assembler(place: Path) -> Stage:
    return Assembler(AssemblerSettings(root=place, sink="tree"))


def some_files(count: int = 12) -> list[TheirFile]:
    """Files of one and of many chunks, in folders and not, that end on a chunk's end and not."""
    choose = random.Random(7)
    return [
        TheirFile(
            f"file {number};ü.dat",
            choose.randbytes(choose.choice((1, 4095, 4096, 8192, 50_000, 200_001))),
            choose.choice(("", "shots", "shots/today")),
        )
        for number in range(count)
    ]


def rebuilt(place: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(place)): path.read_bytes()
        for path in place.rglob("*")
        if path.is_file() and ".headrace" not in path.parts
    }


def as_sent(files: list[TheirFile]) -> dict[str, bytes]:
    return {file.path: file.content for file in files}


def test_files_are_rebuilt_with_their_times_by_two_bridges_and_two_assemblers(
    cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path
) -> None:
    files = some_files(30)
    with (
        running(bridge(cluster, topic), cluster),
        running(bridge(cluster, topic), cluster),
        running(assembler(tmp_path), cluster, "tree"),
        running(assembler(tmp_path), cluster, "tree"),
    ):
        send(feeder, topic, *files)
        wait_until(lambda: len(rebuilt(tmp_path)) == len(files), within=40)
    assert rebuilt(tmp_path) == as_sent(files)
    assert (tmp_path / files[0].path).stat().st_mtime_ns == 1_700_000_000_250_000_000


def test_what_was_sent_adds_up(cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path) -> None:
    files = some_files()
    with running(bridge(cluster, topic), cluster), running(assembler(tmp_path), cluster, "tree"):
        send(feeder, topic, *files)
        feeder.raw(topic, b"no chunk", b"theirs", 0)
        feeder.flush()
        wait_until(lambda: len(rebuilt(tmp_path)) == len(files) and len(dead_letters(cluster)) == 1, within=40)
    code, output = headrace(cluster, "verify", "--deep", "--json")
    summary = json.loads(output.splitlines()[-1])
    assert code == 3, output
    assert summary["stray_dead_letters"] == 1
    assert header(dead_letters(cluster)[0], "dlq-error") == "no-chunk-message"
    assert header(dead_letters(cluster)[0], "dlq-topic") == topic.name
    events = [avro.decode(message.value() or b"", FileEvent) for batch in read_now(cluster, FILES) for message in batch]
    assert {(event.path.decode(), event.size, event.state) for event in events} == {
        (file.path, len(file.content), "announced") for file in files
    }


def test_chunks_in_any_order_and_twice_change_nothing(
    cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path
) -> None:
    file = TheirFile("run.dat", random.Random(3).randbytes(90_000), "shots")
    messages = file.messages()
    shuffled = [*messages, *messages]
    random.Random(4).shuffle(shuffled)
    for number, (key, value) in enumerate(shuffled):
        feeder.raw(topic, value, key, number % 3)
    feeder.flush()
    with running(bridge(cluster, topic), cluster), running(assembler(tmp_path), cluster, "tree"):
        wait_until(lambda: rebuilt(tmp_path) == as_sent([file]), within=30)


def test_a_changed_file_replaces_the_old_one_even_if_it_is_shorter(
    cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path
) -> None:
    old, new = TheirFile("run.dat", b"a" * 50_000), TheirFile("run.dat", b"b" * 20_000, mtime=1_700_000_100.0)
    with running(bridge(cluster, topic), cluster), running(assembler(tmp_path), cluster, "tree"):
        send(feeder, topic, old)
        wait_until(lambda: rebuilt(tmp_path) == as_sent([old]), within=30)
        send(feeder, topic, new)
        wait_until(lambda: rebuilt(tmp_path) == as_sent([new]), within=30)


def test_a_file_that_lost_a_chunk_fails_and_is_rebuilt_when_it_is_sent_again(
    cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path
) -> None:
    file = TheirFile("run.dat", random.Random(8).randbytes(20_000))
    key, value = file.messages()[2]
    broken = value.replace(file.content[8192:8200], b"damaged!")
    place = AssemblerSettings(root=tmp_path, sink="tree", incomplete_after=timedelta(seconds=2))
    with running(bridge(cluster, topic), cluster), running(Assembler(place), cluster, "tree"):
        for number, (theirs, good) in enumerate(file.messages()):
            feeder.raw(topic, broken if theirs == key else good, theirs, number % 3)
        feeder.flush()
        wait_until(lambda: failures(cluster) == ["incomplete"], within=30)
        assert header(dead_letters(cluster)[0], "dlq-error") == "chunk-hash-wrong"
        later = cluster.producer()
        for number, (theirs, good) in enumerate(file.messages()):
            at = int(time.time() * 1000) + 120_000
            later.produce(topic.name, good, theirs, partition=number % 3, timestamp=at)
        assert later.flush(20) == 0
        wait_until(lambda: rebuilt(tmp_path) == as_sent([file]), within=30)


def failures(cluster: Cluster) -> list[str | None]:
    """Why receivers failed files."""
    return [ack.covers[0].code for ack in receipts_on_log(cluster) if ack.covers[0].outcome == "failed"]


def test_a_name_that_leads_out_of_the_tree_is_put_aside(
    cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path
) -> None:
    bad = [TheirFile("x", b"evil", "../outside"), TheirFile("../x/y", b"evil"), TheirFile("/etc/evil", b"evil")]
    good = TheirFile("good.dat", b"good")
    place = tmp_path / "tree"
    with running(bridge(cluster, topic), cluster), running(assembler(place), cluster, "tree"):
        send(feeder, topic, *bad, good)
        wait_until(lambda: len(dead_letters(cluster)) == 3 and rebuilt(place) == as_sent([good]), within=30)
    assert {header(letter, "dlq-error") for letter in dead_letters(cluster)} == {"unsafe-path"}
    assert [path.name for path in tmp_path.iterdir()] == ["tree"]


@pytest.mark.parametrize(
    "point",
    [
        "openmsi_bridge.after-frames-before-announce:3",
        "loop.after-effect-before-receipt:3",
        "loop.after-receipt-before-commit:3",
    ],
)
def test_a_bridge_that_is_killed_goes_on_and_every_file_is_rebuilt(
    cluster: Cluster, topic: Topic, feeder: Feeder, tmp_path: Path, point: str
) -> None:
    files = some_files()
    send(feeder, topic, *files)
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_OPENMSI_BRIDGE__SESSION_TIMEOUT": "6s",
    }
    killed = Service("bridge", tmp_path, ["bridge", topic.name, "--metrics-port", "0"], environment)
    place = tmp_path / "tree"
    with running(assembler(place), cluster, "tree"):
        killed.start(point)
        killed.await_point()
        killed.kill()
        killed.start()
        wait_until(lambda: rebuilt(place) == as_sent(files), within=60)
    killed.stop()


def test_a_topic_that_is_not_there_is_named(cluster: Cluster) -> None:
    stage = OpenmsiBridge(OpenmsiBridgeSettings(topic="nobody-writes-this"), cluster)
    loop = RunningLoop(stage, cluster)
    wait_until(lambda: loop.failure is not None, within=20)
    assert isinstance(loop.failure, NoForeignTopic)
