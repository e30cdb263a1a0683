"""The real OpenMSIStream 1.8.8 on both ends: its producers feed our bridge, its consumers read what we send."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.topics import Topic
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from headrace_files.openmsi.topics import TOPICS
from headrace_files.openmsi_bridge.service import OpenmsiBridge
from headrace_files.openmsi_bridge.settings import OpenmsiBridgeSettings
from tests.support.dead import headrace
from tests.support.openmsi import their_topic
from tests.support.openmsistream import NotInstalled, ensure_openmsistream, program, write_config
from tests.support.processes import Service
from tests.support.running import new_cluster, running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(420)]

SIZES = {
    "top.dat": 100,
    "shots/run 1;a.csv": 200_001,
    "shots/today/größe-測定.bin": 16_384 * 3,
    "shots/today/one chunk.bin": 16_384,
    "large.bin": 3_000_000,
}


@pytest.fixture(scope="module")
def theirs() -> Path:
    """The folder of its programs."""
    try:
        return ensure_openmsistream()
    except NotInstalled as error:
        pytest.skip(f"no OpenMSIStream here: {error}")


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    made = new_cluster(broker.bootstrap, prefix)
    create_missing(made, TOPICS)
    return made


@pytest.fixture
def topic(cluster: Cluster) -> Topic:
    return their_topic(cluster)


@pytest.fixture
def outgoing(tmp_path: Path) -> Path:
    """A folder of files."""
    choose = random.Random(11)
    for name, size in SIZES.items():
        path = tmp_path / "outgoing" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(choose.randbytes(size))
    return tmp_path / "outgoing"


def content(folder: Path) -> dict[str, bytes]:
    """The files of a tree, without what either program keeps there for itself."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not {".headrace", "LOGS"} & set(path.parts) and path.suffix != ".log"
    }


def test_what_their_producer_sends_is_rebuilt_here_and_adds_up(
    theirs: Path, cluster: Cluster, topic: Topic, outgoing: Path, tmp_path: Path
) -> None:
    config, expected, tree = write_config(tmp_path, cluster.bootstrap), content(outgoing), tmp_path / "tree"
    bridge = OpenmsiBridge(OpenmsiBridgeSettings(topic=topic.name, source="lab"), cluster)
    upload: list[str | Path] = ["--config", config, "--topic_name", topic.name, "--upload_existing"]
    upload += ["--chunk_size", "16384", "--watchdog_lag_time", "1", outgoing]
    with (
        running(bridge, cluster),
        running(Assembler(AssemblerSettings(root=tree, sink="tree")), cluster, "tree"),
        program(theirs, "DataFileUploadDirectory", tmp_path / "up", *upload) as sender,
    ):
        wait_until(lambda: content(tree) == expected, within=90)
        assert sender.quit() == 0, sender.output[-2000:]
    assert headrace(cluster, "verify", "--deep")[0] == 0
    # Only its newest releases send the time; this one does.
    sent, here = outgoing / "large.bin", tree / "large.bin"
    assert abs(here.stat().st_mtime - sent.stat().st_mtime) < 0.001


def test_what_we_send_is_rebuilt_by_their_consumer(
    theirs: Path, cluster: Cluster, topic: Topic, outgoing: Path, tmp_path: Path
) -> None:
    config, expected, there = write_config(tmp_path, cluster.bootstrap), content(outgoing), tmp_path / "there"
    files = [outgoing / name for name in expected]
    options = ["--format", "openmsi", "--topic", topic.name, "--root", outgoing, "--chunk_size", "16384"]
    code, output = headrace(cluster, "upload", *options, *files)
    assert code == 0, output
    with program(
        theirs, "DataFileDownloadDirectory", tmp_path / "down", "--config", config, "--topic_name", topic.name,
        "--logger_stream_level", "debug", there,
    ) as reader:  # fmt: skip
        wait_until(lambda: there.exists() and content(there) == expected, within=90)
        assert reader.quit() == 0, reader.output[-2000:]
    assert "mismatch" not in reader.output.lower()
    # It counts a file as reconstructed when the hash over all of it is right.
    assert f"{len(expected)} files" in reader.output, reader.output[-2000:]


def test_our_watcher_sends_what_is_added_once_and_their_consumer_has_it(
    theirs: Path, cluster: Cluster, topic: Topic, outgoing: Path, tmp_path: Path
) -> None:
    config, there = write_config(tmp_path, cluster.bootstrap), tmp_path / "there"
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_DIRECTORY_SOURCE__SETTLE": "200ms",
    }
    watch = ["watch", outgoing, "--source", "lab", "--format", "openmsi", "--topic", topic.name]
    watcher = Service("watch", tmp_path, [*watch, "--metrics-port", "0"], environment)
    download = ["--config", config, "--topic_name", topic.name, there]
    with program(theirs, "DataFileDownloadDirectory", tmp_path / "down", *download) as reader:
        watcher.start()
        wait_until(lambda: there.exists() and content(there) == content(outgoing), within=90)
        watcher.kill()
        (outgoing / "later.dat").write_bytes(b"later")
        watcher.start()
        wait_until(lambda: content(there) == content(outgoing), within=60)
        watcher.stop()
        assert reader.quit() == 0, reader.output[-2000:]
    # What the first run sent, the second one knew from the log.
    assert watcher.tail().count("1 files sent") == 1, watcher.tail()
