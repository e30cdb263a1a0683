"""What a user of `headrace watch` would miss."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.errors import ConfigError
from headrace.events import Covers, UploadAck
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key
from headrace.topics import UPLOAD_ACKS
from headrace_files.directory_source.service import DirectorySource
from headrace_files.directory_source.settings import DirectorySourceSettings
from tests.support.running import new_cluster
from tests.support.sent import announced, contents, events, versions
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

SETTLE = 0.2


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "watched"
    root.mkdir()
    return root


class Watching:
    """A source in a thread."""

    def __init__(self, cluster: Cluster, root: Path, state: Path, *, once: bool = False, **settings: object) -> None:
        values = {"root": root, "source": "lab", "settle": timedelta(seconds=SETTLE), **settings}
        self.source = DirectorySource(DirectorySourceSettings(**values), cluster, state, once=once)  # type: ignore[arg-type]
        self.stopping = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.source.run(self.stopping)
        except BaseException as error:  # noqa: BLE001 - raised by stop
            self.failure = error

    def stop(self) -> None:
        self.stopping.set()
        self.join()

    def join(self) -> None:
        self.thread.join(30)
        assert not self.thread.is_alive(), "the source did not stop"
        if self.failure is not None:
            raise self.failure


@contextmanager
def watching(cluster: Cluster, root: Path, **settings: object) -> Iterator[Watching]:
    watch = Watching(cluster, root, root.parent / "state", **settings)  # type: ignore[arg-type]
    try:
        yield watch
    finally:
        watch.stop()


def send_once(cluster: Cluster, root: Path, **settings: object) -> DirectorySource:
    watch = Watching(cluster, root, root.parent / "state", once=True, **settings)  # type: ignore[arg-type]
    watch.join()
    return watch.source


def place(root: Path, path: bytes, content: bytes) -> None:
    """Make a file of any name, with its folders."""
    location = root / os.fsdecode(path)
    location.parent.mkdir(parents=True, exist_ok=True)
    location.write_bytes(content)


def what_is_sent(cluster: Cluster) -> dict[bytes, list[bytes | None]]:
    return contents(cluster.bootstrap, cluster.settings.prefix)


def wait_for(cluster: Cluster, *paths: bytes, within: float = 20) -> None:
    wait_until(lambda: announced(cluster.bootstrap, cluster.settings.prefix) >= set(paths), within=within)


STRANGE_NAMES = [
    b"with space", b"tab\there", b"back\\slash", b"semi;colon", b"line\nbreak", b"\xff\xfe no utf-8", b"-dash",
    "großes Ü 漢字 🙂".encode(),
    b"sub/folder/deep", b".hidden", b"$(touch x)", b"'quo\"te", b"n" * 255, b"%41", b"\x01",
]  # fmt: skip


def test_files_of_any_name_and_empty_ones_arrive_unchanged_whether_there_before_or_added(
    cluster: Cluster, root: Path
) -> None:
    before = {name: b"before " + name for name in STRANGE_NAMES} | {b"empty": b""}
    for name, content in before.items():
        place(root, name, content)
    with watching(cluster, root):
        wait_for(cluster, *before)
        later = {b"added/" + name: b"later " + name for name in STRANGE_NAMES} | {b"added/empty": b""}
        for name, content in later.items():
            place(root, name, content)
        wait_for(cluster, *later)
    assert what_is_sent(cluster) == {name: [content] for name, content in (before | later).items()}


def test_a_file_larger_than_a_chunk_is_sent_in_pieces_that_prove_their_sum(cluster: Cluster, root: Path) -> None:
    content = os.urandom(1_000_001)
    place(root, b"large", content)
    send_once(cluster, root, chunk_size=65536)
    ((key, version),) = versions(cluster.bootstrap, cluster.settings.prefix).items()
    assert version.kinds == ["open", *["data"] * 16, "close"]
    assert version.content == content
    assert version.close is not None
    assert (version.close["n"], version.close["size"]) == (16, 1_000_001)
    status = (root / "large").stat()
    assert version.opened is not None
    assert version.opened["mtime_ns"] == status.st_mtime_ns
    assert version.opened["source"] == "lab"
    # Headers cost more than small data frames do, so only the ends have them.
    assert [bool(headers) for headers in version.headers] == [True, *[False] * 16, True]
    last = events(cluster.bootstrap, cluster.settings.prefix)[-1]
    assert (last["state"], last["acked"], last["last"] - last["first"]) == ("announced", 1_000_001, 17)
    assert (last["path_id"].hex(), last["file"].hex()) == key


def test_what_was_sent_is_not_sent_again_and_what_changed_while_the_source_was_down_is(
    cluster: Cluster, root: Path
) -> None:
    for name in (b"same", b"touched", b"longer", b"replaced"):
        place(root, name, b"one")
    send_once(cluster, root)
    os.utime(root / "touched")
    place(root, b"longer", b"one and more")
    place(root, b"new", b"two")
    (root / "new").rename(root / "replaced")
    source = send_once(cluster, root)
    assert source.sent == 3
    assert what_is_sent(cluster) == {
        b"same": [b"one"],
        b"touched": [b"one", b"one"],
        b"longer": [b"one", b"one and more"],
        b"replaced": [b"one", b"two"],
    }
    assert send_once(cluster, root).sent == 0


def test_a_file_that_still_grows_is_sent_when_it_is_still(cluster: Cluster, root: Path) -> None:
    with watching(cluster, root, settle=timedelta(seconds=0.5)):
        with (root / "growing").open("wb") as file:
            for _ in range(15):
                file.write(b"x" * 1000)
                file.flush()
                time.sleep(0.1)
        wait_for(cluster, b"growing")
    assert what_is_sent(cluster) == {b"growing": [b"x" * 15000]}


def test_a_file_changed_later_is_sent_as_a_new_version(cluster: Cluster, root: Path) -> None:
    with watching(cluster, root):
        place(root, b"file", b"first")
        wait_for(cluster, b"file")
        place(root, b"file", b"second")
        wait_until(lambda: what_is_sent(cluster) == {b"file": [b"first", b"second"]}, within=20)


def test_files_in_folders_that_are_made_or_moved_in_are_found(cluster: Cluster, root: Path) -> None:
    outside = root.parent / "outside"
    place(outside, b"deep/er/file", b"moved")
    with watching(cluster, root):
        place(root, b"first", b"")
        wait_for(cluster, b"first")
        for number in range(20):
            place(root, b"a/%d/b/c/file" % number, b"made")
        outside.rename(root / "in")
        wait_for(cluster, b"in/deep/er/file", *(b"a/%d/b/c/file" % number for number in range(20)))
        place(root, b"in/deep/er/another", b"watched too")
        wait_for(cluster, b"in/deep/er/another", within=5)


def test_polling_finds_files_without_any_event(cluster: Cluster, root: Path) -> None:
    with watching(cluster, root, polling=True, poll_every=timedelta(seconds=0.5)):
        place(root, b"sub/file", b"content")
        wait_for(cluster, b"sub/file", within=5)


def test_a_scan_finds_what_no_event_told(cluster: Cluster, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, stop_event: threading.Event, **__: object) -> Iterator[set[object]]:
        while not stop_event.wait(0.1):
            yield set()

    monkeypatch.setattr("watchfiles.watch", silent)
    with watching(cluster, root, scan_every=timedelta(seconds=0.5)):
        place(root, b"file", b"content")
        wait_for(cluster, b"file", within=5)


def test_only_what_the_patterns_take_is_sent(cluster: Cluster, root: Path) -> None:
    for name in (b"a.csv", b"a.csv.tmp", b"raw/b.csv", b"raw/skip/c.csv", b"d.txt", b".headrace/x.csv"):
        place(root, name, b"1")
    send_once(cluster, root, include=[r"\.csv$"], exclude=["(^|/)skip/"])
    assert set(what_is_sent(cluster)) == {b"a.csv", b"raw/b.csv"}


def test_links_out_of_the_folder_and_specials_are_not_sent_and_links_inside_are(cluster: Cluster, root: Path) -> None:
    place(root, b"real", b"inside")
    place(root.parent, b"secret", b"outside")
    (root / "out").symlink_to(root.parent / "secret")
    (root / "folder-out").symlink_to(root.parent)
    (root / "dangling").symlink_to("nowhere")
    (root / "in").symlink_to("real")
    os.mkfifo(root / "pipe")
    send_once(cluster, root)
    assert what_is_sent(cluster) == {b"real": [b"inside"], b"in": [b"inside"]}


def test_only_new_files_are_sent_when_asked(cluster: Cluster, root: Path) -> None:
    place(root, b"old", b"old")
    with watching(cluster, root, new_only=True) as watch:
        wait_until(lambda: watch.source.scanned)
        place(root, b"new", b"new")
        wait_for(cluster, b"new")
    assert what_is_sent(cluster) == {b"new": [b"new"]}


def test_a_second_source_of_the_same_name_is_refused(cluster: Cluster, root: Path) -> None:
    with watching(cluster, root) as watch:
        wait_until(lambda: watch.source.scanned)
        with pytest.raises(ConfigError, match="sends as source lab"):
            send_once(cluster, root)


def fail(cluster: Cluster, key: tuple[str, str], partition: int, outcome: str = "failed") -> None:
    """Say as a receiver that it could do nothing with a version."""
    ack = UploadAck(
        group="tests", item=key[1], file=bytes.fromhex(key[1]), partition=partition, first=0, last=1 << 40,
        covers=[Covers(outcome=outcome, code="expired")], at=0,  # type: ignore[arg-type]
    )  # fmt: skip
    producer = cluster.producer()
    producer.produce(
        cluster.topic_name(UPLOAD_ACKS), avro.encode(ack), encode_key((key[0], "tests", key[1])), partition=partition
    )
    producer.flush(10)


def test_a_file_that_a_receiver_failed_is_offered_again_as_often_as_is_set(cluster: Cluster, root: Path) -> None:
    place(root, b"file", b"content")
    place(root, b"other", b"fine")
    sent = lambda: {  # noqa: E731
        version.attempt: (key, version)
        for key, version in versions(cluster.bootstrap, cluster.settings.prefix).items()
        if version.path == b"file"
    }
    with watching(cluster, root, attempts=2) as watch:
        for attempt in range(3):
            wait_until(lambda: set(sent()) == set(range(attempt + 1)), within=20)  # noqa: B023
            key, version = sent()[attempt]
            fail(cluster, key, *version.partitions)
        wait_until(lambda: watch.source.tree.given_up == {b"file"}, within=20)
    assert what_is_sent(cluster)[b"file"] == [b"content"] * 3
    assert what_is_sent(cluster)[b"other"] == [b"fine"]


def test_a_failure_that_came_while_the_source_was_down_is_made_good_at_its_start(cluster: Cluster, root: Path) -> None:
    place(root, b"failed", b"1")
    place(root, b"made good", b"2")
    send_once(cluster, root)
    for key, version in versions(cluster.bootstrap, cluster.settings.prefix).items():
        fail(cluster, key, *version.partitions)
        if version.path == b"made good":
            fail(cluster, key, *version.partitions, outcome="delivered")
    with watching(cluster, root):
        wait_until(lambda: what_is_sent(cluster) == {b"failed": [b"1", b"1"], b"made good": [b"2"]}, within=20)


def test_a_file_that_changes_while_it_is_read_is_aborted_and_its_new_version_arrives(
    cluster: Cluster, root: Path
) -> None:
    place(root, b"large", os.urandom(30_000_000))
    with watching(cluster, root, chunk_size=16384, queue_messages=50) as watch:
        wait_until(lambda: watch.source.sender is not None and watch.source.sender.bytes_acknowledged > 0)
        with (root / "large").open("r+b") as file:
            file.write(b"changed")
        wait_until(lambda: any(what_is_sent(cluster).get(b"large", [])), within=30)
    found = list(versions(cluster.bootstrap, cluster.settings.prefix).values())
    assert [version.abort for version in found] == ["changed", None]
    assert found[1].content == (root / "large").read_bytes()
    states = [event["state"] for event in events(cluster.bootstrap, cluster.settings.prefix)]
    assert states.count("aborted") == 1
    assert states[-1] == "announced"


def test_a_file_that_is_gone_before_its_turn_leaves_nothing_on_the_log(cluster: Cluster, root: Path) -> None:
    with watching(cluster, root, settle=timedelta(seconds=1)) as watch:
        place(root, b"short-lived", b"1")
        wait_until(lambda: watch.source.tree.waiting == 1)
        (root / "short-lived").unlink()
        wait_until(lambda: watch.source.tree.waiting == 0)
    assert what_is_sent(cluster) == {}
    assert events(cluster.bootstrap, cluster.settings.prefix) == []
