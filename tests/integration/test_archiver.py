"""The archiver on real Kafka and a real S3 server: every version of a file becomes an object, nothing else is left."""

from __future__ import annotations

import hashlib
import random

import pytest

from headrace.broker import EmbeddedBroker
from headrace.events import UploadAck
from headrace.kafka.clients import Cluster
from headrace.objects.errors import MissingBucket
from headrace.sandbox.s3 import S3Server
from headrace_files.archiver.arriving import Arriving
from headrace_files.archiver.service import Archiver
from headrace_files.archiver.settings import ArchiverSettings
from tests.support.feeding import FedFile, Feeder
from tests.support.running import RunningLoop, dead_letters, header, new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.s3]

MEBIBYTE = 1024 * 1024
DAY = "2023-11-14"  # of the mtime that FedFile has by default


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


def settings(s3: S3Server, bucket: str, **more: object) -> ArchiverSettings:
    given = {
        "endpoint": s3.endpoint,
        "bucket": bucket,
        "access_key": s3.access_key,
        "secret_key": s3.secret_key,
        "part_size": 5 * MEBIBYTE,
    }
    return ArchiverSettings.model_validate(given | more)


def content(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def objects(s3: S3Server, bucket: str) -> dict[str, bytes]:
    """Everything in the bucket, as a plain S3 client sees it."""
    client = s3.client()
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def litter(s3: S3Server, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.client().list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


def outcomes(cluster: Cluster) -> dict[str, tuple[str, str | None]]:
    return {ack.item: (ack.covers[0].outcome, ack.covers[0].code) for ack in receipts_on_log(cluster)}


def receipts_of(cluster: Cluster, *files: FedFile, within: float = 30.0) -> dict[str, UploadAck]:
    """The receipts of these files, once all are there."""
    wanted = {file.item for file in files}

    def there() -> dict[str, UploadAck]:
        found = {ack.item: ack for ack in receipts_on_log(cluster)}
        missing = wanted - set(found)
        assert not missing, f"{len(missing)} receipts are missing; there are {outcomes(cluster)}"
        return found

    return wait_until(there, within=within, every=0.2)


def test_a_small_an_empty_and_a_large_file_become_objects_with_their_hashes_in_the_receipts(
    cluster, feeder, s3, bucket
):
    small = FedFile(b"runs/small.csv", b"a,b\n1,2\n")
    empty = FedFile(b"runs/empty", b"")
    short = FedFile(b"runs/short.bin", content(100_000))
    large = FedFile(b"runs/large.bin", content(12 * MEBIBYTE + 17), chunk=256 * 1024)
    feeder.send(small, small.whole())
    feeder.send(empty, empty.whole())
    feeder.send(short, *short.frames())
    feeder.send(large, *large.frames())
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        found = receipts_of(cluster, small, empty, short, large)
    stored = objects(s3, bucket)
    assert stored == {f"test/{DAY}/{file.path.decode()}": file.content for file in (small, empty, short, large)}
    for file in (small, empty, short, large):
        ack = found[file.item]
        assert ack.covers[0].outcome == "delivered"
        assert ack.where == f"s3://{bucket}/test/{DAY}/{file.path.decode()}"
        assert (ack.alg, ack.hash, ack.size) == ("sha256", hashlib.sha256(file.content).digest(), len(file.content))
        head = s3.client().head_object(Bucket=bucket, Key=f"test/{DAY}/{file.path.decode()}")
        assert head["ETag"].strip('"') == ack.etag
        assert head["Metadata"]["headrace-file"] == file.item
    assert not litter(s3, bucket)


def test_frames_that_come_twice_late_or_ahead_make_the_same_object(cluster, feeder, s3, bucket):
    file = FedFile(b"shuffled.bin", content(6 * MEBIBYTE), chunk=64 * 1024)
    pieces = file.data()
    late = [*pieces[10:40], *pieces[:10], *pieces[5:45], *pieces[90:], *pieces[40:90], *pieces]
    feeder.send(file, file.open(), *late[:50], file.open(), *late[50:], file.close(), file.close())
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        receipts_of(cluster, file)
    assert objects(s3, bucket) == {f"test/{DAY}/shuffled.bin": file.content}
    assert outcomes(cluster) == {file.item: ("delivered", None)}


def test_a_bug_in_a_frame_of_an_open_file_closes_it_and_leaves_nothing_of_it_behind(
    cluster, feeder, s3, bucket, monkeypatch
):
    file, other = FedFile(b"met.bin", content(8 * MEBIBYTE), chunk=64 * 1024), FedFile(b"other", b"other")
    add = Arriving.add

    def failing(arriving: Arriving, offset: int, body: memoryview) -> None:
        add(arriving, offset, body)
        if offset == 7 * MEBIBYTE:
            raise ZeroDivisionError

    monkeypatch.setattr(Arriving, "add", failing)
    archiver = Archiver(settings(s3, bucket))
    with running(archiver, cluster):
        feeder.send(file, *file.frames())
        feeder.send(other, other.whole())
        feeder.flush()
        receipts_of(cluster, file, other)
        wait_until(lambda: archiver.memory.used == 0 and not litter(s3, bucket), within=10)
    assert outcomes(cluster) == {file.item: ("dead_lettered", "unexpected"), other.item: ("delivered", None)}
    assert objects(s3, bucket) == {f"test/{DAY}/other": b"other"}


def test_a_close_before_the_last_bytes_waits_for_them(cluster, feeder, s3, bucket):
    file = FedFile(b"late.bin", content(200_000), chunk=64 * 1024)
    pieces = file.data()
    feeder.send(file, file.open(), *pieces[:2], file.close(), pieces[3], pieces[2])
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        receipts_of(cluster, file)
    assert objects(s3, bucket) == {f"test/{DAY}/late.bin": file.content}


def test_every_version_of_a_path_is_kept_and_none_is_stored_twice(cluster, feeder, s3, bucket):
    first = FedFile(b"a.bin", b"one", ctime_ns=1)
    second = FedFile(b"a.bin", content(6 * MEBIBYTE, 2), chunk=256 * 1024, ctime_ns=2)
    third = FedFile(b"a.bin", content(6 * MEBIBYTE, 3), chunk=256 * 1024, ctime_ns=3)
    touched = FedFile(b"a.bin", b"one", ctime_ns=4)
    with running(Archiver(settings(s3, bucket)), cluster):
        for file in (first, second, third, touched):
            feeder.send(file, *(file.frames() if len(file.content) > 10 else [file.whole()]))
            feeder.flush()
            found = receipts_of(cluster, file)
    key = f"test/{DAY}/a.bin"
    assert objects(s3, bucket) == {
        key: b"one",
        f"{key}~{second.item}": second.content,
        f"{key}~{third.item}": third.content,
    }
    assert found[touched.item].where == f"s3://{bucket}/{key}"
    assert found[third.item].where == f"s3://{bucket}/{key}~{third.item}"


def test_two_versions_of_a_path_that_are_sent_at_once_are_both_kept(cluster, feeder, s3, bucket):
    files = [FedFile(b"a.bin", content(6 * MEBIBYTE, seed), chunk=256 * 1024) for seed in range(3)]
    small = FedFile(b"a.bin", b"small")
    for values in zip(*(file.frames() for file in files), strict=True):
        for file, value in zip(files, values, strict=True):
            feeder.send(file, value)
    feeder.send(small, small.whole())
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        receipts_of(cluster, *files, small)
    assert sorted(objects(s3, bucket).values()) == sorted(file.content for file in (*files, small))
    assert not litter(s3, bucket)


def test_names_with_any_bytes_are_found_by_a_plain_s3_client_under_the_documented_name(cluster, feeder, s3, bucket):
    expected = {
        b"with space ~ and 100%.txt": "with space ~ and 100%25.txt",
        b"tab\tand\nnewline;'\"\\&<>#?*": "tab%09and%0Anewline;'\"\\&<>#?*",
        b"caf\xe9/\xff\xfe": "caf%E9/%FF%FE",
        "münchen/日本/🦑".encode(): "münchen/日本/🦑",
        b" leading and trailing ": " leading and trailing ",
        b"+a=b,c:d@e!(f)[g]{h}|^`": "+a=b,c:d@e!(f)[g]{h}|^`",
        b"-n": "-n",
        b"x~" + b"0" * 32: "x%7E" + "0" * 32,
    }
    small = [FedFile(path, b"small " + path, source="källa 1/2") for path in expected]
    large = [
        FedFile(b"large/" + path, path + content(5 * MEBIBYTE), chunk=1024 * 1024, source="källa 1/2")
        for path in expected
    ]
    for file in small:
        feeder.send(file, file.whole())
    for file in large:
        feeder.send(file, *file.frames())
    feeder.flush()
    with running(Archiver(settings(s3, bucket, prefix="kept/{here}")), cluster):
        found = receipts_of(cluster, *small, *large)
    base = f"kept/{{here}}/källa 1%2F2/{DAY}/"
    assert objects(s3, bucket) == (
        {f"{base}{expected[file.path]}": file.content for file in small}
        | {f"{base}large/{expected[file.path.removeprefix(b'large/')]}": file.content for file in large}
    )
    assert all(ack.where == f"s3://{bucket}/{key}" for ack, key in (
        (found[file.item], f"{base}{expected[file.path]}") for file in small
    ))  # fmt: skip


@pytest.mark.parametrize("path", [b"../escape", b"/etc/passwd", b"a//b", b"a/../../b", b"x" * 1100, b"./a"])
def test_a_name_that_no_object_can_have_is_a_dead_letter_and_its_other_frames_are_skipped(
    cluster, feeder, s3, bucket, path
):
    bad = FedFile(path, content(10_000))
    good = FedFile(b"good", b"good")
    feeder.send(bad, *bad.frames())
    feeder.send(good, good.whole())
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        found = receipts_of(cluster, bad, good)
    assert found[bad.item].covers[0].outcome == "dead_lettered"
    assert [header(letter, "dlq-error") for letter in dead_letters(cluster)] == [
        "key-too-long" if len(path) > 1000 else "unsafe-path"
    ]
    assert list(objects(s3, bucket)) == [f"test/{DAY}/good"]


def test_what_the_store_refuses_is_a_dead_letter_and_everything_else_goes_on(cluster, feeder, s3, bucket):
    if s3.kind != "versitygw":
        pytest.skip("only versitygw keeps objects as files")
    folder = FedFile(b"d/e/f", b"1")
    file = FedFile(b"f", b"1")
    under_file = [FedFile(b"f/small", b"2"), FedFile(b"f/large", content(6 * MEBIBYTE), chunk=1024 * 1024)]
    as_folder = [FedFile(b"d", b"2"), FedFile(b"d/e", content(6 * MEBIBYTE), chunk=1024 * 1024)]
    too_long = FedFile(b"n" * 300, b"3")
    last = FedFile(b"last", b"4")
    with running(Archiver(settings(s3, bucket)), cluster):
        for first in (folder, file):
            feeder.send(first, first.whole())
        feeder.flush()
        receipts_of(cluster, folder, file)
        refused = [*under_file, *as_folder, too_long]
        for each in (*refused, last):
            feeder.send(each, *(each.frames() if len(each.content) > 10 else [each.whole()]))
        feeder.flush()
        receipts_of(cluster, *refused, last)
    found = outcomes(cluster)
    assert {found[each.item] for each in (*under_file, *as_folder)} == {("dead_lettered", "name-conflict")}
    assert found[too_long.item] == ("dead_lettered", "name-too-long")
    assert found[last.item] == ("delivered", None)
    assert not litter(s3, bucket)


def test_aborted_damaged_and_wrong_files_leave_no_object_and_no_litter(cluster, feeder, s3, bucket):
    sizes = {"chunk": 1024 * 1024}
    aborted = FedFile(b"aborted", content(8 * MEBIBYTE, 1), **sizes)
    wrong = FedFile(b"wrong", content(8 * MEBIBYTE, 2), **sizes)
    short = FedFile(b"short", content(8 * MEBIBYTE, 3), **sizes)
    damaged = FedFile(b"damaged", content(8 * MEBIBYTE, 4), **sizes)
    wrong_small = FedFile(b"wrong small", b"right", **sizes)
    orphan = FedFile(b"orphan", content(8 * MEBIBYTE, 5), **sizes)
    feeder.send(aborted, aborted.open(), *aborted.data(), aborted.abort())
    swapped = wrong.data()
    swapped[3] = swapped[3][:-1] + bytes([swapped[3][-1] ^ 1])
    feeder.send(wrong, wrong.open(), *swapped, wrong.close())
    longer = FedFile(b"short", content(9 * MEBIBYTE, 3), **sizes)
    feeder.send(short, short.open(), *longer.data(), short.close())
    pieces = damaged.data()
    feeder.send(damaged, damaged.open(), *pieces[:6], b"\xc1 no frame", *pieces[7:], damaged.close())
    bad = FedFile(b"wrong small", b"other")
    feeder.send(wrong_small, bad.whole().replace(b"other", b"wrong"))
    feeder.send(orphan, *orphan.data(), orphan.close())
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        receipts_of(cluster, aborted, wrong, short, damaged, wrong_small)
    found = outcomes(cluster)
    assert found[aborted.item] == ("unchanged", "aborted")
    assert found[wrong.item] == found[short.item] == found[wrong_small.item] == ("failed", "hash-mismatch")
    assert found[damaged.item] == ("failed", "damaged")
    assert orphan.item not in found
    assert objects(s3, bucket) == {}
    assert not litter(s3, bucket)


def test_a_file_that_no_frame_comes_of_for_too_long_is_closed_as_failed(cluster, feeder, s3, bucket):
    file = FedFile(b"half", content(8 * MEBIBYTE), chunk=1024 * 1024)
    feeder.send(file, file.open(), *file.data()[:6])
    feeder.flush()
    with running(Archiver(settings(s3, bucket, incomplete_after="2s")), cluster):
        receipts_of(cluster, file)
    assert outcomes(cluster) == {file.item: ("failed", "incomplete")}
    assert not litter(s3, bucket)


def test_many_files_side_by_side_fit_into_little_memory(cluster, feeder, s3, bucket, tmp_path):
    files = [
        FedFile(b"side %d" % number, content(7 * MEBIBYTE, number), chunk=256 * 1024, source=f"s{number}")
        for number in range(40)
    ]
    for values in zip(*(file.frames() for file in files), strict=True):
        for file, value in zip(files, values, strict=True):
            feeder.send(file, value)
    feeder.flush()
    archiver = Archiver(settings(s3, bucket, buffer="32MiB", uploads=4, spool=tmp_path))
    with running(archiver, cluster):
        receipts_of(cluster, *files, within=60)
        assert archiver.memory.peak <= 32 * MEBIBYTE + 2 * MEBIBYTE
        assert archiver.memory.used == 0
    stored = objects(s3, bucket)
    assert [stored[f"s{number}/{DAY}/side {number}"] == file.content for number, file in enumerate(files)] == [
        True
    ] * 40
    assert not litter(s3, bucket)
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_said_so_or_created(cluster, feeder, s3):
    file = FedFile(b"a", b"1")
    feeder.send(file, file.whole())
    feeder.flush()
    loop = RunningLoop(Archiver(settings(s3, "not-there-yet")), cluster)
    wait_until(lambda: loop.failure)
    with pytest.raises(MissingBucket, match="--create-bucket"):
        loop.stop()
    with running(Archiver(settings(s3, "not-there-yet", create_bucket=True)), cluster):
        receipts_of(cluster, file)
    assert objects(s3, "not-there-yet") == {f"test/{DAY}/a": b"1"}


def test_a_versioned_bucket_gives_the_receipt_its_version(cluster, feeder, s3, bucket):
    if s3.kind != "versitygw":
        pytest.skip("moto's versions are of another form")
    s3.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    files = [FedFile(b"small", b"1"), FedFile(b"large", content(6 * MEBIBYTE), chunk=1024 * 1024)]
    feeder.send(files[0], files[0].whole())
    feeder.send(files[1], *files[1].frames())
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        found = receipts_of(cluster, *files)
    for file in files:
        head = s3.client().head_object(Bucket=bucket, Key=f"test/{DAY}/{file.path.decode()}")
        assert found[file.item].version == head["VersionId"]
