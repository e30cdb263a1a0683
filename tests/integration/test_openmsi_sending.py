"""Files in OpenMSIStream's layout, sent by us and read by hand."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import msgpack
import pytest

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.events import FileEvent
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.topics import FILES, Topic
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from headrace_files.openmsi.topics import SENT, TOPICS
from headrace_files.openmsi_bridge.service import OpenmsiBridge
from headrace_files.openmsi_bridge.settings import OpenmsiBridgeSettings
from tests.support.dead import headrace
from tests.support.openmsi import their_topic
from tests.support.processes import Service
from tests.support.running import new_cluster, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    made = new_cluster(broker.bootstrap, prefix)
    create_missing(made, TOPICS)
    return made


@pytest.fixture
def topic(cluster: Cluster) -> Topic:
    return their_topic(cluster)


def messages(cluster: Cluster, topic: Topic) -> list[tuple[str, list[object]]]:
    """Keys and arrays on a topic."""
    return [
        ((message.key() or b"").decode(), msgpack.unpackb(message.value() or b"", raw=False))
        for batch in read_now(cluster, topic)
        for message in batch
    ]


@pytest.mark.parametrize(("form", "elements"), [("openmsi", 10), ("openmsi-9", 9)])
def test_a_file_is_cut_as_their_uploader_cuts_it(
    cluster: Cluster, topic: Topic, tmp_path: Path, form: str, elements: int
) -> None:
    content = random.Random(5).randbytes(10_000)
    (tmp_path / "shots").mkdir()
    file = tmp_path / "shots" / "run 1.csv"
    file.write_bytes(content)
    options = ["--format", form, "--topic", topic.name, "--chunk_size", "4096", "--root", tmp_path]
    assert headrace(cluster, "upload", *options, file)[0] == 0
    found = sorted(messages(cluster, topic), key=lambda each: int(str(each[1][4])))
    assert [key for key, _ in found] == [f"shots_run 1.csv_chunk_{index}_of_3" for index in (1, 2, 3)]
    for index, (_, fields) in enumerate(found, start=1):
        data = content[(index - 1) * 4096 : index * 4096]
        expected = ["run 1.csv", hashlib.sha512(content).digest(), hashlib.sha512(data).digest()]
        expected += [(index - 1) * 4096, index, 3, "shots", "", data]
        assert fields[:9] == expected
        assert len(fields) == elements
    assert not list(read_now(cluster, FILES))


def test_what_their_layout_cannot_carry_is_named_and_the_rest_is_sent(
    cluster: Cluster, topic: Topic, tmp_path: Path
) -> None:
    names = [b"empty.dat", b"not-utf8-\xff.dat", b"good.dat"]
    for name in names:
        Path(str(tmp_path), name.decode("utf-8", "surrogateescape")).write_bytes(b"" if b"empty" in name else b"x")
    code, output = headrace(
        cluster, "upload", "--format", "openmsi", "--topic", topic.name, *sorted(tmp_path.iterdir())
    )
    assert code == 1
    assert "empty" in output
    assert "UTF-8" in output
    assert [fields[0] for _, fields in messages(cluster, topic)] == ["good.dat"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--format", "openmsi"], "belong together"),
        (["--topic", "theirs"], "belong together"),
        (["--format", "openmsi", "--topic", "theirs", "--job", "one"], "--job has no meaning"),
        (["--format", "openmsi", "--topic", "theirs", "--wait", "assembled"], "--wait assembled has no meaning"),
        (["--format", "openmsi", "--topic", "nobody-made-this"], "does not exist"),
    ],
)
def test_what_makes_no_sense_is_refused(cluster: Cluster, tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    code, output = headrace(cluster, "upload", *options, tmp_path / "file")
    assert code == 2
    assert words in output


@pytest.mark.parametrize("point", ["openmsi_sender.between-chunks:20", "openmsi_sender.after-chunks-before-record:3"])
def test_a_watcher_that_is_killed_sends_everything_when_it_is_back(
    cluster: Cluster, topic: Topic, tmp_path: Path, point: str
) -> None:
    choose, root, tree = random.Random(9), tmp_path / "root", tmp_path / "tree"
    root.mkdir()
    for number in range(10):
        (root / f"file-{number}").write_bytes(choose.randbytes(1 + 5000 * number))
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_DIRECTORY_SOURCE__SETTLE": "0s",
    }
    command = ["watch", root, "--source", "lab", "--format", "openmsi", "--topic", topic.name, "--chunk_size", "4096"]
    watcher = Service("watch", tmp_path, [*command, "--metrics-port", "0"], environment)
    bridge = OpenmsiBridge(OpenmsiBridgeSettings(topic=topic.name), cluster)
    with running(bridge, cluster), running(Assembler(AssemblerSettings(root=tree, sink="tree")), cluster, "tree"):
        watcher.start(point)
        watcher.await_point()
        watcher.kill()
        watcher.start()
        wait_until(lambda: content(tree) == content(root), within=30)
        wait_until(lambda: len({event.path for event in recorded(cluster)}) == 10, within=20)
        watcher.stop()


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("file-*")}


def recorded(cluster: Cluster) -> list[FileEvent]:
    """What is remembered as sent."""
    return [avro.decode(message.value() or b"", FileEvent) for batch in read_now(cluster, SENT) for message in batch]


def test_a_watched_folder_goes_there_and_comes_back_and_nothing_is_sent_twice(
    cluster: Cluster, topic: Topic, tmp_path: Path
) -> None:
    choose, root, tree = random.Random(6), tmp_path / "root", tmp_path / "tree"
    root.mkdir()
    for number in range(20):
        (root / f"file-{number}").write_bytes(choose.randbytes(1 + 3000 * number))
    options = ["--format", "openmsi", "--topic", topic.name, "--chunk_size", "4096", "--once"]
    options += ["--settle", "0s", "--source", "lab"]
    bridge = OpenmsiBridge(OpenmsiBridgeSettings(topic=topic.name), cluster)
    with running(bridge, cluster), running(Assembler(AssemblerSettings(root=tree, sink="tree")), cluster, "tree"):
        assert headrace(cluster, "watch", root, *options)[0] == 0
        wait_until(lambda: content(tree) == content(root), within=30)
    first = len(messages(cluster, topic))
    (root / "file-3").write_bytes(b"changed")
    code, output = headrace(cluster, "watch", root, *options)
    assert code == 0
    assert "1 files sent" in output
    assert len(messages(cluster, topic)) == first + 1
    assert len(recorded(cluster)) == 21
