"""What a user of the assembler would miss."""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from headrace.broker import EmbeddedBroker
from headrace.chunks.frames import Data, encode
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key
from headrace.receipts import receipt_key
from headrace.stage import arrivals
from headrace.topics import CHUNKS, UPLOAD_ACKS
from headrace_files.assembler.building import Building, Partials
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.support.feeding import FedFile, Feeder
from tests.support.running import RunningLoop, dead_letters, header, new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


def assembler(root: Path, **settings: object) -> Assembler:
    return Assembler(AssemblerSettings(root=root, **settings))  # type: ignore[arg-type]


def files_below(root: Path) -> dict[bytes, bytes]:
    places = (place for place in root.rglob("*") if place.is_file() and not place.is_symlink())
    relative = {place.relative_to(root): place.read_bytes() for place in places}
    return {os.fsencode(path): content for path, content in relative.items() if path.parts[0] != ".headrace"}


def outcomes(cluster: Cluster) -> dict[str, tuple[str, str | None]]:
    return {ack.item: (ack.covers[0].outcome, ack.covers[0].code) for ack in receipts_on_log(cluster)}


def committed(loop: RunningLoop, cluster: Cluster, partition: int) -> int:
    """Where the group would go on in a partition of chunks."""
    consumer = cluster.consumer(loop.loop.group)
    try:
        (place,) = consumer.committed([TopicPartition(cluster.topic_name(CHUNKS), partition)], timeout=10)
        return place.offset
    finally:
        consumer.close()


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def test_small_large_and_empty_files_appear_byte_for_byte_with_their_time(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    small = FedFile(b"small.bin", content(100))
    empty = FedFile(b"empty", b"")
    large = FedFile(b"deep/er/large.bin", content(1_000_000))
    feeder.send(small, small.whole())
    feeder.send(empty, empty.whole())
    feeder.send(large, *large.frames())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 3, within=20)
    assert files_below(tmp_path) == {file.path: file.content for file in (small, empty, large)}
    assert (tmp_path / "deep/er/large.bin").stat().st_mtime_ns == large.mtime_ns
    assert set(outcomes(cluster).values()) == {("delivered", None)}
    assert not list((tmp_path / ".headrace").iterdir())


def test_frames_that_come_out_of_order_twice_and_late_make_the_same_file(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"shuffled", content(300_000))
    data = file.data()
    shuffled = random.Random(3).sample(data, len(data))
    feeder.send(file, file.open(), *shuffled[:40], file.close(), *shuffled[30:], *data[:5])
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    assert files_below(tmp_path) == {b"shuffled": file.content}


def test_what_was_verified_is_what_is_delivered_when_a_frame_comes_again_with_other_bytes(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"again", content(40_000))
    other = encode(Data(v=1, i=1, off=2000, b=memoryview(bytes(6000))))
    feeder.send(file, file.open(), *file.data(), other, file.close())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    assert outcomes(cluster) == {file.item: ("delivered", None)}
    assert files_below(tmp_path) == {b"again": file.content}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"/etc/passwd", "unsafe-path"),
        (b"../outside", "unsafe-path"),
        (b"a/../../outside", "unsafe-path"),
        (b"a//b", "unsafe-path"),
        (b".headrace/x", "unsafe-path"),
        (b"C:/windows", "unsafe-path"),
        (b"nul\0byte", "unsafe-path"),
        (b"folder/NUL.txt", "device-name"),
        (b"n" * 300, "name-too-long"),
        (b"/".join([b"n" * 200] * 30), "name-too-long"),
        (b"link/inside", "unsafe-path"),
        (b"file/below", "in-the-way"),
        (b"folder", "in-the-way"),
    ],
)
def test_a_name_that_cannot_be_written_inside_the_root_is_a_dead_letter(
    cluster: Cluster, feeder: Feeder, tmp_path: Path, path: bytes, code: str
) -> None:
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (root / "file").write_bytes(b"in the way")
    (root / "link").symlink_to(tmp_path)
    bad = FedFile(path, content(10_000))
    good = FedFile(b"good", content(10_000))
    feeder.send(bad, *bad.frames())
    feeder.send(good, *good.frames())
    feeder.flush()
    with running(assembler(root), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
    assert outcomes(cluster) == {bad.item: ("dead_lettered", code), good.item: ("delivered", None)}
    (letter,) = dead_letters(cluster)
    assert header(letter, "dlq-error") == code
    assert letter.value() == bad.open()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["root"]
    assert files_below(root)[b"good"] == good.content


def test_a_damaged_frame_fails_the_file_and_stands_among_the_dead_letters(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"damaged", content(20_000))
    data = file.data()
    feeder.send(file, file.open(), *data[:2], b"\xc1garbage", *data[3:], file.close())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
    assert outcomes(cluster)[file.item] == ("failed", "damaged")
    (letter,) = dead_letters(cluster)
    assert letter.value() == b"\xc1garbage"
    assert files_below(tmp_path) == {}


def test_a_frame_beyond_what_any_file_reaches_is_put_aside_with_its_file_and_the_rest_arrives(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file, other = FedFile(b"far", content(20_000)), FedFile(b"other", content(20_000, seed=2))
    far = encode(Data(v=1, i=1, off=2**62, b=memoryview(b"far")))
    feeder.send(file, file.open(), *file.data()[:2])
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        # Not all in one batch: what came before is not delivered again.
        wait_until(lambda: (tmp_path / ".headrace" / file.item).exists(), within=20)
        feeder.send(file, file.data()[2], far, *file.data(), file.close())
        feeder.send(other, *other.frames())
        feeder.flush()
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
    assert not list((tmp_path / ".headrace").iterdir())
    assert outcomes(cluster) == {file.item: ("dead_lettered", "beyond-file"), other.item: ("delivered", None)}
    (letter,) = dead_letters(cluster)
    assert letter.value() == far
    assert set(files_below(tmp_path)) == {b"other"}


def test_a_bug_in_a_frame_of_an_open_file_closes_it_and_leaves_nothing_of_it_behind(
    cluster: Cluster, feeder: Feeder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, other = FedFile(b"met", content(20_000)), FedFile(b"other", content(20_000, seed=2))
    write = Partials.write

    def failing(partials: Partials, building: Building, frame: Data) -> None:
        write(partials, building, frame)
        if building.item == file.item and frame.i == 3:
            raise ZeroDivisionError

    monkeypatch.setattr(Partials, "write", failing)
    with running(assembler(tmp_path), cluster) as loop:
        feeder.send(file, *file.frames())
        feeder.send(other, *other.frames())
        feeder.flush()
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
        end = feeder.offsets[file.file][-1] + 1
        wait_until(lambda: committed(loop, cluster, feeder.partition(file)) >= end, within=10)
        assert not list((tmp_path / ".headrace").iterdir())
    assert outcomes(cluster) == {file.item: ("dead_lettered", "unexpected"), other.item: ("delivered", None)}
    assert set(files_below(tmp_path)) == {b"other"}


def test_a_file_whose_hash_differs_is_failed_and_never_gets_its_name(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"wrong", content(20_000))
    other = FedFile(b"wrong", content(20_000, seed=2))
    feeder.send(file, file.open(), *file.data(), other.close())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    assert outcomes(cluster) == {file.item: ("failed", "hash-mismatch")}
    assert files_below(tmp_path) == {}


def test_a_newer_version_replaces_an_older_one_and_an_older_that_ends_late_does_not(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    old = FedFile(b"versions", b"old" * 5000, ctime_ns=1_000)
    new = FedFile(b"versions", b"new" * 5000, ctime_ns=2_000)
    feeder.send(old, old.open(), *old.data())
    feeder.send(new, *new.frames())
    feeder.send(old, old.close())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
        assert files_below(tmp_path) == {b"versions": new.content}
        late = FedFile(b"versions", b"late" * 5000, ctime_ns=1_500)
        feeder.send(late, *late.frames())
        newest = FedFile(b"versions", b"newest", ctime_ns=3_000)
        feeder.send(newest, newest.whole())
        feeder.flush()
        wait_until(lambda: len(receipts_on_log(cluster)) == 4, within=20)
    assert outcomes(cluster)[old.item] == ("unchanged", "superseded")
    assert outcomes(cluster)[late.item] == ("unchanged", "superseded")
    assert files_below(tmp_path) == {b"versions": newest.content}


def test_an_aborted_version_leaves_nothing_and_is_accounted_for(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"aborted", content(50_000))
    feeder.send(file, file.open(), *file.data()[:5], file.abort())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    assert outcomes(cluster) == {file.item: ("unchanged", "aborted")}
    assert not list((tmp_path / ".headrace").iterdir())


def test_a_frame_that_bears_the_file_id_of_another_path_harms_nobody_else(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"victim", content(50_000))
    others = (FedFile(f"other-{number}".encode(), b"x") for number in range(100))
    other = next(each for each in others if feeder.partition(each) == feeder.partition(file))
    forged_key = encode_key((other.path_id.hex(), file.item))
    feeder.send(file, file.open(), *file.data()[:5])
    for frame in (other.open(), file.data()[7], other.close()):
        feeder.raw(CHUNKS, frame, forged_key, feeder.partition(file))
    feeder.send(file, *file.data()[5:], file.close())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
    assert files_below(tmp_path) == {b"victim": file.content}
    assert outcomes(cluster)[file.item] == ("delivered", None)
    (letter,) = dead_letters(cluster)
    assert header(letter, "dlq-error") == "wrong-key"


def test_a_file_without_frames_for_too_long_is_failed_as_incomplete(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"incomplete", content(50_000))
    feeder.send(file, file.open(), *file.data()[:5])
    feeder.flush()
    with running(assembler(tmp_path, incomplete_after="2s"), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    assert outcomes(cluster) == {file.item: ("failed", "incomplete")}


def test_a_part_of_a_delivered_file_that_came_again_is_no_failure_of_it(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    file = FedFile(b"again", content(50_000))
    feeder.send(file, *file.frames())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    feeder.send(file, file.open(), *file.data()[:5])
    feeder.flush()
    last = max(feeder.offsets[file.file])
    with running(assembler(tmp_path, incomplete_after="1s"), cluster) as loop:
        wait_until(lambda: committed(loop, cluster, feeder.partition(file)) > last, within=20)
    # One key: the log keeps only the last of them.
    *_, kept = [ack for ack in receipts_on_log(cluster) if ack.item == file.item]
    assert [each.outcome for each in kept.covers] == ["delivered"]
    assert (kept.hash, kept.last) == (hashlib.sha256(file.content).digest(), last)
    assert files_below(tmp_path) == {b"again": file.content}
    assert not list((tmp_path / ".headrace").iterdir())


def test_a_part_of_a_delivered_file_that_came_again_does_not_hold_the_committed_offset_for_a_day(
    cluster: Cluster, feeder: Feeder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrivals, "DOUBT_SECONDS", 0.5)
    delivered, begun = FedFile(b"delivered", content(50_000)), FedFile(b"begun", content(50_000))
    with running(assembler(tmp_path), cluster) as loop:
        feeder.send(delivered, *delivered.frames())
        feeder.flush()
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
        feeder.send(delivered, delivered.open(), *delivered.data()[:5])
        feeder.flush()
        last = max(feeder.offsets[delivered.file])
        feeder.send(begun, begun.open(), *begun.data()[:5])
        feeder.flush()
        wait_until(lambda: committed(loop, cluster, feeder.partition(delivered)) > last, within=20)
        feeder.send(begun, *begun.data()[5:], begun.close())
        feeder.flush()
        wait_until(lambda: outcomes(cluster).get(begun.item), within=20)
    assert set(outcomes(cluster).values()) == {("delivered", None)}


def test_a_file_that_was_taken_back_may_fail_again(cluster: Cluster, feeder: Feeder, tmp_path: Path) -> None:
    file = FedFile(b"again", content(50_000))
    feeder.send(file, *file.frames())
    feeder.flush()
    with running(assembler(tmp_path), cluster) as loop:
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
        group = loop.loop.group
    receipt = encode_key(receipt_key(file.path_id.hex(), group, file.item))
    feeder.raw(UPLOAD_ACKS, None, receipt, feeder.partition(file))
    feeder.send(file, file.open(), *file.data()[:5])
    feeder.flush()
    with running(assembler(tmp_path, incomplete_after="1s"), cluster):
        wait_until(lambda: receipts_on_log(cluster)[1:], within=20)
    assert outcomes(cluster) == {file.item: ("failed", "incomplete")}


def test_a_restarted_assembler_goes_on_in_the_middle_and_does_nothing_twice(
    cluster: Cluster, feeder: Feeder, tmp_path: Path
) -> None:
    first = FedFile(b"first", content(50_000))
    slow = FedFile(b"slow", content(200_000))
    feeder.send(slow, slow.open(), *slow.data()[:20])
    feeder.send(first, *first.frames())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=20)
    inode = (tmp_path / "first").stat().st_ino
    feeder.send(slow, *slow.data()[20:], slow.close())
    feeder.flush()
    with running(assembler(tmp_path), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
    assert files_below(tmp_path) == {b"first": first.content, b"slow": slow.content}
    assert (tmp_path / "first").stat().st_ino == inode, "a file that had its receipt was written again"


def test_two_sinks_each_get_everything(cluster: Cluster, feeder: Feeder, tmp_path: Path) -> None:
    file = FedFile(b"both", content(50_000))
    feeder.send(file, *file.frames())
    feeder.flush()
    with running(assembler(tmp_path / "a"), cluster, sink="a"), running(assembler(tmp_path / "b"), cluster, sink="b"):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=20)
    assert files_below(tmp_path / "a") == files_below(tmp_path / "b") == {b"both": file.content}
