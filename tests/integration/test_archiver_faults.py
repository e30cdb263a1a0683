"""The archiver when things go wrong: killed anywhere, an object store that is unwell, partitions that move."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from headrace.broker import EmbeddedBroker
from headrace.config import Settings, sources
from headrace.families import Host
from headrace.kafka.clients import Cluster
from headrace.objects.errors import StoreDenies, StoreUnwell
from headrace.objects.store import ObjectStore
from headrace.observe.health import Health
from headrace.observe.metrics import Metrics
from headrace.sandbox.s3 import S3Server
from headrace.stage.middleware import Middleware
from headrace_files.archiver.metrics import METRICS
from headrace_files.archiver.service import Archiver, service
from headrace_files.archiver.settings import ArchiverSettings
from tests.integration.test_archiver import DAY, MEBIBYTE, content, litter, objects, outcomes, receipts_of, settings
from tests.support.feeding import FedFile, Feeder
from tests.support.running import dead_letters, new_cluster, receipts_on_log, running
from tests.support.s3_faults import FaultyS3, Kind
from tests.support.waiting import wait_until

COMMAND_LINE = "from headrace.cli import main; main()"

pytestmark = [pytest.mark.kafka, pytest.mark.s3]


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


@pytest.fixture
def faulty_s3(s3: S3Server) -> Iterator[FaultyS3]:
    with FaultyS3(s3.port) as proxy:
        yield proxy


@contextmanager
def archive_process(
    cluster: Cluster, s3: S3Server, bucket: str, endpoint: str, state: Path, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`headrace archive`, as a user starts it."""
    own = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_STATE": str(state),
        "HEADRACE_ARCHIVER__PART_SIZE": "5MiB",
        "HEADRACE_ARCHIVER__SESSION_TIMEOUT": "6s",
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND_LINE, "archive", "--bucket", bucket, "--endpoint", endpoint],
        env={**os.environ, **own, **environment},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            assert process.wait(20) == 0, "the archiver did not drain"


def some_files() -> list[FedFile]:
    return [
        FedFile(b"large", content(17 * MEBIBYTE, 1), chunk=256 * 1024),
        FedFile(b"medium", content(6 * MEBIBYTE, 2), chunk=256 * 1024),
        FedFile(b"small", content(10_000, 3)),
        FedFile(b"empty", b""),
    ]


def send(feeder: Feeder, files: list[FedFile]) -> None:
    for file in files:
        feeder.send(file, *(file.frames() if len(file.content) > MEBIBYTE else [file.whole()]))
    feeder.flush()


def as_objects(files: list[FedFile]) -> dict[str, bytes]:
    return {f"test/{DAY}/{file.path.decode()}": file.content for file in files}


@pytest.mark.parametrize(
    "point",
    [
        "archiver.between-parts:2",
        "archiver.before-complete",
        "archiver.after-effect-before-receipt:2",
        "loop.after-effect-before-receipt:2",
        "loop.after-receipt-before-commit",
    ],
)
def test_killed_and_started_again_it_finishes_every_file_and_leaves_no_litter(
    cluster, feeder, s3, faulty_s3, bucket, tmp_path, point
):
    files = some_files()
    send(feeder, files)
    marker = tmp_path / "reached"
    kill = {"HEADRACE_KILL_POINT": point, "HEADRACE_KILL_MARKER": str(marker)}
    with archive_process(cluster, s3, bucket, s3.endpoint, tmp_path / "state", **kill) as first:
        wait_until(marker.exists, within=30)
        first.kill()
        first.wait()
    before = objects(s3, bucket)
    with archive_process(cluster, s3, bucket, faulty_s3.endpoint, tmp_path / "state"):
        receipts_of(cluster, *files, within=40)
        wait_until(lambda: not litter(s3, bucket))
    assert objects(s3, bucket) == as_objects(files)
    assert set(outcomes(cluster).values()) == {("delivered", None)}
    for key in before:
        begun = [path for method, path in faulty_s3.writes() if method == "POST" and path.split("?")[0].endswith(key)]
        assert not begun, f"{key} was whole already and was uploaded again"


def test_stopped_in_the_middle_of_a_file_it_leaves_no_litter_and_the_next_one_finishes(
    cluster, feeder, s3, bucket, tmp_path
):
    file = FedFile(b"large", content(17 * MEBIBYTE), chunk=256 * 1024)
    pieces = file.data()
    feeder.send(file, file.open(), *pieces[:50])
    feeder.flush()
    with archive_process(cluster, s3, bucket, s3.endpoint, tmp_path / "state"):
        wait_until(lambda: litter(s3, bucket), within=30)
    assert not litter(s3, bucket)
    feeder.send(file, *pieces[50:], file.close())
    feeder.flush()
    with archive_process(cluster, s3, bucket, s3.endpoint, tmp_path / "state"):
        receipts_of(cluster, file)
    assert objects(s3, bucket) == as_objects([file])


def is_complete(method: str, path: str) -> bool:
    return method == "POST" and "uploadId=" in path


def is_create(method: str, path: str) -> bool:
    return method == "POST" and "uploads" in path


def is_part(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber=" in path


def is_put(method: str, path: str) -> bool:
    return method == "PUT" and "partNumber=" not in path


@pytest.mark.parametrize("kind", ["500", "503", "reset", "lost-answer"])
@pytest.mark.parametrize("request_kind", [is_put, is_create, is_part, is_complete])
def test_a_request_that_fails_is_made_again_until_it_works(
    cluster, feeder, s3, faulty_s3, bucket, kind: Kind, request_kind: Callable[[str, str], bool]
):
    files = some_files()
    fault = faulty_s3.fail(kind, times=2, match=request_kind)
    send(feeder, files)
    with running(Archiver(settings(s3, bucket, endpoint=faulty_s3.endpoint)), cluster):
        receipts_of(cluster, *files, within=40)
        assert not litter(s3, bucket)
    assert fault.hits == 2
    assert objects(s3, bucket) == as_objects(files)
    assert set(outcomes(cluster).values()) == {("delivered", None)}


def test_an_outage_pauses_its_partitions_and_ends_without_loss_or_dead_letters(cluster, feeder, s3, faulty_s3, bucket):
    files = some_files() + [FedFile(b"more %d" % number, content(5000, number)) for number in range(300)]
    faulty_s3.fail("500")
    pauses: list[str] = []

    class Pauses(Middleware):
        def after_pause(self, _partitions, _seconds, reason):
            pauses.append(reason)

    send(feeder, files)
    archiver = Archiver(settings(s3, bucket, endpoint=faulty_s3.endpoint))
    with running(archiver, cluster, middleware=[Pauses()]):
        wait_until(lambda: [reason for reason in pauses if "unwell" in reason], within=20)
        tried = len(faulty_s3.requests)
        wait_until(lambda: len(faulty_s3.requests) > tried + 1, within=30)
        faulty_s3.heal()
        faulty_s3.fail("reset", times=3)
        faulty_s3.fail("slow", times=30)
        receipts_of(cluster, *files, within=60)
    assert objects(s3, bucket) == as_objects(files)
    assert set(outcomes(cluster).values()) == {("delivered", None)}
    assert dead_letters(cluster) == []
    assert not litter(s3, bucket)


def test_stopped_during_an_outage_it_ends_soon_and_the_next_one_does_the_work(
    cluster, feeder, s3, faulty_s3, bucket, tmp_path
):
    files = some_files()
    send(feeder, files)
    faulty_s3.fail("500")
    with archive_process(cluster, s3, bucket, faulty_s3.endpoint, tmp_path / "state") as process:
        wait_until(lambda: len(faulty_s3.requests) > 5, within=20)
        process.terminate()
        assert process.wait(15) == 0
    with archive_process(cluster, s3, bucket, s3.endpoint, tmp_path / "state"):
        receipts_of(cluster, *files)
    assert objects(s3, bucket) == as_objects(files)
    assert not litter(s3, bucket)


def test_an_object_store_that_is_down_at_the_start_is_waited_for(cluster, feeder, own_s3):
    bucket = own_s3.create_bucket("waited-for")
    file = FedFile(b"a", b"1")
    send(feeder, [file])
    own_s3.stop()
    with running(Archiver(settings(own_s3, bucket)), cluster):
        own_s3.start()
        receipts_of(cluster, file)
    assert objects(own_s3, bucket) == {f"test/{DAY}/a": b"1"}


def test_keys_that_are_changed_at_the_store_are_read_again_without_a_restart(cluster, feeder, own_s3, tmp_path):
    if own_s3.kind != "versitygw":
        pytest.skip("moto takes any key")
    bucket = own_s3.create_bucket("keys")
    access, secret = tmp_path / "access", tmp_path / "secret"
    for path, key in ((access, own_s3.access_key), (secret, own_s3.secret_key)):
        path.touch(0o600)
        path.write_text(key)
    file = tmp_path / "headrace.toml"
    file.write_text(
        f'[archiver]\nbucket = "{bucket}"\nendpoint = "{own_s3.endpoint}"\npart_size = "5MiB"\n'
        f'secret_key_file = "{secret}"\n'
    )
    found, overrides = sources(file), {"access_key_file": access}
    own = found.section("archiver", ArchiverSettings, overrides).values
    host = Host("archiver", Settings(), cluster, Health(), Metrics(METRICS), found, overrides)
    before, *small = (FedFile(b"small %d" % number, b"%d" % number) for number in range(5))
    large = FedFile(b"large", content(12 * MEBIBYTE), chunk=256 * 1024)
    archiver = service(own, host)
    with capture_logs() as logs, running(archiver, cluster):
        feeder.send(before, before.whole())
        feeder.flush()
        receipts_of(cluster, before)
        own_s3.access_key, own_s3.secret_key = "another", "secret-of-another"
        own_s3.restart()
        for each in small:
            feeder.send(each, each.whole())
        feeder.send(large, *large.frames())
        feeder.flush()
        wait_until(lambda: any("denies access" in str(line.get("problem")) for line in logs), within=20)
        secret.write_text(own_s3.secret_key)
        access.write_text(own_s3.access_key)
        receipts_of(cluster, *small, large)
    assert len(objects(own_s3, bucket)) == 6
    assert set(outcomes(cluster).values()) == {("delivered", None)}
    assert "secret-of-another" not in str(logs)
    # One that the store does not know learns nothing of what is there, not even that it is not.
    stranger = ObjectStore(own)
    for ask in (stranger.check, lambda: stranger.head(f"test/{DAY}/large"), lambda: list(stranger.read("nothing"))):
        with pytest.raises(StoreDenies):
            ask()


def test_an_empty_object_that_appears_while_it_is_looked_for_is_no_refusal(s3, faulty_s3, bucket):
    def appears(method: str, path: str) -> bool:
        if method == "GET":
            s3.client().put_object(Bucket=bucket, Key="late", Body=b"")
        return False

    faulty_s3.fail("500", match=appears)
    store = ObjectStore(settings(s3, bucket, endpoint=faulty_s3.endpoint))
    with pytest.raises(StoreUnwell):
        store.head("late")
    found = store.head("late")
    assert found is not None
    assert found.size == 0


def test_everything_again_into_an_intact_bucket_changes_nothing_there(cluster, feeder, s3, faulty_s3, bucket):
    files = some_files()
    beside = FedFile(b"large", content(6 * MEBIBYTE, 9), chunk=256 * 1024)
    send(feeder, [*files, beside])
    with running(Archiver(settings(s3, bucket)), cluster):
        first = receipts_of(cluster, *files, beside)
    modified = {key: s3.client().head_object(Bucket=bucket, Key=key)["LastModified"] for key in objects(s3, bucket)}
    with running(Archiver(settings(s3, bucket, endpoint=faulty_s3.endpoint)), cluster, sink="again"):

        def again() -> bool:
            return sum(ack.group.endswith(".again") for ack in receipts_on_log(cluster)) == len(first)

        wait_until(again, within=30)
    assert modified == {
        key: s3.client().head_object(Bucket=bucket, Key=key)["LastModified"] for key in objects(s3, bucket)
    }
    assert not [path for method, path in faulty_s3.writes() if method == "POST" or "partNumber" in path]
    by_item = {}
    for ack in receipts_on_log(cluster):
        by_item.setdefault(ack.item, set()).add((ack.where, ack.etag, ack.hash, ack.covers[0].outcome))
    assert all(len(said) == 1 for said in by_item.values())


def test_partitions_that_move_while_files_are_under_way_lose_nothing(cluster, feeder, s3, bucket):
    files = [FedFile(b"f %d" % number, content(6 * MEBIBYTE, number), chunk=256 * 1024) for number in range(12)]
    halves = [file.frames() for file in files]
    for file, values in zip(files, halves, strict=True):
        feeder.send(file, *values[:15])
    feeder.flush()
    with running(Archiver(settings(s3, bucket)), cluster):
        wait_until(lambda: len(litter(s3, bucket)) == 0)
        with running(Archiver(settings(s3, bucket)), cluster):
            for file, values in zip(files, halves, strict=True):
                feeder.send(file, *values[15:22])
            feeder.flush()
            wait_until(lambda: len(litter(s3, bucket)) == 12, within=30)
        for file, values in zip(files, halves, strict=True):
            feeder.send(file, *values[22:])
        feeder.flush()
        receipts_of(cluster, *files, within=40)
    assert objects(s3, bucket) == as_objects(files)
    assert set(outcomes(cluster).values()) == {("delivered", None)}
    wait_until(lambda: not litter(s3, bucket))


def test_paused_past_its_session_it_does_no_harm_when_it_wakes(cluster, feeder, s3, bucket, tmp_path):
    file = FedFile(b"large", content(17 * MEBIBYTE), chunk=256 * 1024)
    values = file.frames()
    feeder.send(file, *values[:50])
    feeder.flush()
    with archive_process(cluster, s3, bucket, s3.endpoint, tmp_path / "one") as first:
        wait_until(lambda: litter(s3, bucket), within=30)
        first.send_signal(signal.SIGSTOP)
        feeder.send(file, *values[50:])
        feeder.flush()
        with archive_process(cluster, s3, bucket, s3.endpoint, tmp_path / "two"):
            receipts_of(cluster, file, within=60)
            later = FedFile(b"later", b"1")
            first.send_signal(signal.SIGCONT)
            send(feeder, [later])
            receipts_of(cluster, later, within=30)
    assert objects(s3, bucket) == as_objects([file, later])
    assert set(outcomes(cluster).values()) == {("delivered", None)}
    assert not litter(s3, bucket)
