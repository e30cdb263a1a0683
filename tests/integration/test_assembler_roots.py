"""The folder of an assembler, or one below it, is moved, deleted or replaced while it runs."""

from __future__ import annotations

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.broker import EmbeddedBroker
from headrace.cli.runtime import run_service
from headrace.config import Settings
from headrace.families import Host, stage_named
from headrace.kafka.clients import Cluster
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.service import service as assembler
from headrace_files.assembler.settings import AssemblerSettings
from headrace_files.assembler.tree import RootGone, Tree
from tests.support.disks import small_file_system
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

WAITING = "waiting to join the group anew"


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


@contextmanager
def service(
    cluster: Cluster, root: Path, state: Path, factory: Callable[[AssemblerSettings, Host], Assembler] = assembler
) -> Iterator[None]:
    """The whole service, as `headrace assemble` runs it; what ends it is raised."""
    own = AssemblerSettings(root=root, metrics_port=0)
    settings = Settings(kafka=cluster.settings, state=state)
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            run_service(stage_named("assembler"), "assembler", settings, own, cluster, stop, factory)
        except BaseException as error:  # noqa: BLE001 - raised below
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    if failures:
        raise failures[0]


def delivered(cluster: Cluster) -> int:
    return len({ack.item for ack in receipts_on_log(cluster) if ack.covers[0].outcome == "delivered"})


def test_a_folder_that_was_moved_away_takes_no_later_file_with_it(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    before, after = FedFile(b"day/run/before", b"1"), FedFile(b"day/run/after", b"2")
    with running(Assembler(AssemblerSettings(root=root)), cluster):
        feeder.send(before, before.whole())
        feeder.flush()
        wait_until(lambda: delivered(cluster) == 1, within=20)
        (root / "day").rename(elsewhere)
        feeder.send(after, after.whole())
        feeder.flush()
        wait_until(lambda: delivered(cluster) == 2, within=20)
    assert (root / "day/run/after").read_bytes() == b"2"
    assert [place.name for place in elsewhere.rglob("*")] == ["run", "before"]


@pytest.mark.parametrize("what", ["deleted", "moved away", "replaced", "emptied"])
def test_a_root_that_changes_under_an_open_file_is_told_and_everything_lands_in_the_one_that_is_there_then(
    cluster: Cluster, feeder: Feeder, tmp_path: Path, what: str
) -> None:
    root, old = tmp_path / "root", tmp_path / "old"
    large, small = FedFile(b"a/large", random.Random(1).randbytes(400_000)), FedFile(b"a/small", b"content")
    data = large.data()
    with capture_logs() as logs, service(cluster, root, tmp_path / "state"):
        feeder.send(large, large.open(), *data[:50])
        feeder.flush()
        wait_until(lambda: (root / ".headrace" / large.item).exists(), within=20)
        if what == "deleted":
            shutil.rmtree(root)
        elif what == "emptied":
            shutil.rmtree(root / ".headrace")
        else:
            root.rename(old)
        if what == "replaced":
            root.mkdir()
        feeder.send(small, small.whole())
        feeder.send(large, *data[50:], large.close())
        feeder.flush()
        if what in ("deleted", "moved away"):
            wait_until(
                lambda: any(line["event"] == "paused" and "is there again" in line["why"] for line in logs), within=20
            )
            assert not root.exists()
            root.mkdir()
        wait_until(lambda: delivered(cluster) == 2, within=30)
    assert (root / "a/large").read_bytes() == large.content
    assert (root / "a/small").read_bytes() == small.content
    assert not (old / "a").exists()
    assert not [line for line in logs if line["log_level"] in ("error", "critical")]


def test_a_file_that_its_sender_gives_up_while_the_root_is_away_is_not_lost_from_the_books(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    root, disk = tmp_path / "root", tmp_path / "disk"
    disk.mkdir()
    root.symlink_to(disk)
    file = FedFile(b"a/large", random.Random(1).randbytes(400_000))
    partial = disk / ".headrace" / file.item
    with running(Assembler(AssemblerSettings(root=root)), cluster):
        feeder.send(file, file.open(), *file.data()[:50])
        feeder.flush()
        wait_until(partial.exists, within=20)
        root.unlink()
        # As a disk that is away refuses to delete anything.
        partial.unlink()
        partial.mkdir()
        feeder.send(file, file.abort())
        feeder.flush()
        wait_until(lambda: bool(receipts_on_log(cluster)), within=20)
    (ack,) = receipts_on_log(cluster)
    assert (ack.item, ack.covers[0].code) == (file.item, "aborted")


def test_a_file_system_that_went_away_does_not_fill_the_one_below_it(tmp_path: Path) -> None:
    with small_file_system(tmp_path / "disk", 1_000_000) as disk:
        tree = Tree(disk)
        tree.look()
    with pytest.raises(RootGone, match="another file system"):
        tree.look()
    assert not list(disk.iterdir())
    # As if the service had run once before the disk was mounted.
    (disk / ".headrace").mkdir()
    with pytest.raises(RootGone, match="another file system"):
        tree.look()
    with pytest.raises(RootGone, match="another file system"):
        Tree(disk, tree.device)
    tree.close()


def test_a_root_that_is_deleted_while_the_assembler_begins_anew_is_waited_for(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    file = FedFile(b"a/file", b"content")

    def deleted_meanwhile(own: AssemblerSettings, host: Host) -> Assembler:
        if host.before is not None and not any(line["event"] == WAITING for line in logs):
            shutil.rmtree(root)
        return assembler(own, host)

    with capture_logs() as logs, service(cluster, root, tmp_path / "state", deleted_meanwhile):
        wait_until(lambda: (root / ".headrace").exists(), within=20)
        (root / ".headrace").rmdir()
        feeder.send(file, file.whole())
        feeder.flush()
        wait_until(lambda: any(line["event"] == WAITING for line in logs), within=20)
        assert not root.exists()
        root.mkdir()
        wait_until(lambda: delivered(cluster) == 1, within=30)
    assert (root / "a/file").read_bytes() == b"content"


def test_after_a_folder_was_moved_the_new_one_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, synced = Tree(tmp_path / "root"), []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(Path(f"/proc/self/fd/{handle}").readlink()), fsync(handle))
    )
    for number, item in enumerate(("1", "2")):
        os.close(tree.open_partial(item))
        tree.place(item, (b"day", b"run", item.encode()))
        synced.clear()
        tree.sync_folders([(b"day", b"run")])
        if number == 0:
            (tmp_path / "root/day").rename(tmp_path / "elsewhere")
    tree.close()
    assert set(synced) == {tmp_path / "root", tmp_path / "root/day", tmp_path / "root/day/run"}
