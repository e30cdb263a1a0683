"""`headrace replay` on real Kafka: what a destination lacks is made again, what it has is not touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition

from headrace.broker import EmbeddedBroker
from headrace.kafka.clients import Cluster
from headrace.proof.groups import positions
from headrace.proof.verify import Outcome, Verification
from headrace.sandbox.s3 import S3Server
from headrace.stage.contract import Stage
from headrace.topics import CHUNKS, UPLOAD_ACKS
from headrace_files.archiver.service import Archiver
from headrace_files.archiver.settings import ArchiverSettings
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.support.dead import as_json, headrace
from tests.support.feeding import FedFile, Feeder
from tests.support.oracle import files_below
from tests.support.processes import Service
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.s3_faults import faulty
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

Seen = dict[bytes, tuple[int, int, int, int]]


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return tmp_path / "tree"


@pytest.fixture
def environment(tmp_path: Path, tree: Path) -> dict[str, str]:
    """The settings of a machine that runs the assembler of `tree`."""
    return {
        "HEADRACE_STATE": str(tmp_path / "state"),
        "HEADRACE_ASSEMBLER__ROOT": str(tree),
        "HEADRACE_ASSEMBLER__SINK": "test",
        "HEADRACE_ASSEMBLER__SESSION_TIMEOUT": "6s",
    }


def material() -> list[FedFile]:
    """Small and large, empty, nested, and one path with two versions."""
    files = [
        FedFile(f"folder {number % 3}/file-{number}".encode(), os.urandom(1 + 3000 * number)) for number in range(9)
    ]
    return [
        *files,
        FedFile(b"empty", b""),
        FedFile(b"changing", b"first version", ctime_ns=1),
        FedFile(b"changing", b"second version, longer", ctime_ns=2),
    ]


def send(feeder: Feeder, files: list[FedFile]) -> None:
    for number, file in enumerate(files):
        feeder.send(file, *(file.frames() if number % 2 or len(file.content) > 1_000_000 else [file.whole()]))
        feeder.announce(file)


def assemble(cluster: Cluster, stage: Stage, count: int) -> None:
    with running(stage, cluster):
        wait_until(lambda: len({ack.item for ack in receipts_on_log_with_values(cluster)}) >= count, within=30)


def receipts_on_log_with_values(cluster: Cluster):
    return [ack for ack in receipts_on_log(cluster) if not ack.group.endswith("dlq")]


def touched(tree: Path) -> Seen:
    """What changes if a file is written, renamed or given other times: inode, mtime, ctime, size."""
    return {
        path: (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        for path, status in files_below(tree).items()
    }


def contents(tree: Path) -> dict[bytes, bytes]:
    return {path: (tree / os.fsdecode(path)).read_bytes() for path in files_below(tree)}


def books(cluster: Cluster) -> Outcome:
    outcome = Outcome()
    list(Verification(cluster).run(outcome))
    return outcome


def replay(cluster: Cluster, environment: Mapping[str, str], *arguments: str | Path) -> tuple[int, dict]:
    code, output = headrace(cluster, "replay", *arguments, "--json", environment=environment)
    assert "{" in output, output
    return code, as_json(output)


def receipts_end(cluster: Cluster) -> int:
    consumer = cluster.consumer(None)
    try:
        return sum(
            consumer.get_watermark_offsets(TopicPartition(cluster.topic_name(UPLOAD_ACKS), number), timeout=10)[1]
            for number in range(cluster.partitions(UPLOAD_ACKS))
        )
    finally:
        consumer.close()


@pytest.fixture
def assembled(cluster: Cluster, feeder: Feeder, tree: Path) -> list[FedFile]:
    files = material()
    send(feeder, files)
    assemble(cluster, Assembler(AssemblerSettings(root=tree)), len(files))
    return files


def test_an_intact_tree_is_not_touched(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    before, places, receipts = touched(tree), positions(cluster), receipts_end(cluster)
    code, told = replay(cluster, environment, "--service", "assembler")
    assert code == 0
    (service,) = told["services"]
    assert service["again"] == 0
    assert service["kept"] == {"intact": len(assembled) - 1, "replaced": 1}
    assert touched(tree) == before
    assert (positions(cluster), receipts_end(cluster)) == (places, receipts)


def test_what_is_missing_or_changed_is_made_again_and_nothing_else(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    before, was = touched(tree), contents(tree)
    (tree / "changing").unlink()
    (tree / "folder 1/file-1").unlink()
    (tree / "folder 2/file-8").write_bytes(bytes(len(was[b"folder 2/file-8"])))
    shutil.rmtree(tree / "folder 0")
    harmed = {
        b"changing",
        b"folder 1/file-1",
        b"folder 2/file-8",
        *(path for path in was if path.startswith(b"folder 0")),
    }

    code, told = replay(cluster, environment, "--service", "assembler", "--dry-run")
    (service,) = told["services"]
    assert (code, service["again"], service["why"]) == (0, 6, {"gone": 5, "differs": 1})
    assert service["bytes"] == sum(len(was[path]) for path in harmed)
    assert not (tree / "changing").exists()

    code, told = replay(cluster, environment, "--service", "assembler")
    assert code == 0, told
    assert told["services"][0]["outcomes"] == {"delivered": 6}
    assert contents(tree) == was
    after = touched(tree)
    assert {path for path in before if after[path] != before[path]} == harmed
    assert books(cluster).exit_code == 0
    assert replay(cluster, environment, "--service", "assembler")[1]["services"][0]["again"] == 0


def test_a_lost_tree_is_rebuilt(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    was = contents(tree)
    shutil.rmtree(tree)
    code, told = replay(cluster, environment, "--service", "assembler")
    assert (code, told["services"][0]["again"]) == (0, len(assembled) - 1)
    assert contents(tree) == was
    assert books(cluster).exit_code == 0


def test_what_is_left_to_the_service_is_open_in_the_books_until_it_has_run(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    (tree / "empty").unlink()
    code, _ = replay(cluster, environment, "--service", "assembler", "--detach")
    assert code == 4
    outcome = books(cluster)
    assert outcome.exit_code == 1
    (book,) = outcome.totals.books.values()
    assert book.counts["open"] == 1
    with running(Assembler(AssemblerSettings(root=tree)), cluster):
        wait_until((tree / "empty").exists, within=20)
        wait_until(lambda: books(cluster).exit_code == 0, within=20)


def test_a_running_service_is_not_replayed_and_a_dead_one_is_waited_for(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    kafka = {"HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap, "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix}
    service = Service("assembler", tmp_path, ["run", "assembler"], {**environment, **kafka})
    service.start()
    try:
        wait_until(lambda: service.said("partitions assigned"), within=30)
        (tree / "empty").unlink()
        code, output = headrace(cluster, "replay", "--service", "assembler", environment=environment)
        assert code == 2
        assert "Stop the service" in output
        assert not (tree / "empty").exists()
    finally:
        service.kill()
    code, output = headrace(cluster, "replay", "--service", "assembler", environment=environment)
    assert code == 0, output
    assert "whose session is not over" in output
    assert (tree / "empty").exists()


def test_one_file_is_made_again_beside_the_running_service(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    before = touched(tree)
    (tree / "folder 1/file-7").unlink()
    (tree / "empty").unlink()
    with running(Assembler(AssemblerSettings(root=tree)), cluster):
        code, told = replay(cluster, environment, "--file", "folder 1/file-7")
    assert (code, told["services"][0]["outcomes"]) == (0, {"delivered": 1})
    after = touched(tree)
    assert not (tree / "empty").exists()
    assert {path for path in after if after[path] != before[path]} == {b"folder 1/file-7"}
    assert books(cluster).exit_code == 0
    code, told = replay(cluster, environment, "--file", "folder 1/file-7")
    assert (code, told["services"][0]["again"]) == (0, 0)
    assert touched(tree) == after


def test_a_dead_file_in_pieces_is_replayed_once_the_setting_is_mended_and_its_letter_is_closed(
    cluster: Cluster, feeder: Feeder, tree: Path, environment: dict[str, str]
) -> None:
    file = FedFile(b"CON", os.urandom(20_000))
    send(feeder, [FedFile(b"other", b"x"), file])
    assemble(cluster, Assembler(AssemblerSettings(root=tree)), 2)
    assert books(cluster).exit_code == 3
    code, told = replay(cluster, environment, "--file", file.item)
    assert (code, told["services"][0]["outcomes"]) == (3, {"dead_lettered": 1})
    code, told = replay(
        cluster, environment, "--service", "assembler", "--file", file.item, "--set", "device_names=allow"
    )
    assert (code, told["services"][0]["dead_letters_closed"]) == (0, 2)
    assert (tree / "CON").read_bytes() == file.content
    assert books(cluster).exit_code == 0
    assert headrace(cluster, "dlq", "list")[0] == 0


def test_what_failed_is_tried_again_when_asked_for(
    cluster: Cluster, feeder: Feeder, tree: Path, environment: dict[str, str]
) -> None:
    file = FedFile(b"CON", b"content")
    send(feeder, [file, FedFile(b"other", b"x")])
    assemble(cluster, Assembler(AssemblerSettings(root=tree)), 2)
    allowed = environment | {"HEADRACE_ASSEMBLER__DEVICE_NAMES": "allow"}
    code, told = replay(cluster, allowed, "--service", "assembler")
    assert (code, told["services"][0]["again"], told["services"][0]["kept"]["dead_lettered"]) == (0, 0, 1)
    code, told = replay(cluster, allowed, "--service", "assembler", "--failed")
    assert (code, told["services"][0]["outcomes"]) == (0, {"delivered": 1})
    assert (tree / "CON").read_bytes() == file.content
    assert books(cluster).exit_code == 0
    assert headrace(cluster, "dlq", "list")[0] == 0


def test_an_old_version_that_is_replayed_does_not_replace_the_new_one(
    cluster: Cluster, feeder: Feeder, tree: Path, environment: dict[str, str]
) -> None:
    old = FedFile(b"CON", b"old")
    send(feeder, [old])
    assemble(cluster, Assembler(AssemblerSettings(root=tree)), 1)
    new = FedFile(b"CON", b"new content")
    send(feeder, [new])
    assemble(cluster, Assembler(AssemblerSettings(root=tree, device_names="allow")), 2)
    before = touched(tree)
    allowed = environment | {"HEADRACE_ASSEMBLER__DEVICE_NAMES": "allow"}
    code, told = replay(cluster, allowed, "--file", old.item)
    assert (code, told["services"][0]["outcomes"]) == (0, {"unchanged": 1})
    assert touched(tree) == before


def test_everything_is_rebuilt_in_another_folder_and_the_books_know_nothing_of_it(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    before, receipts = touched(tree), receipts_end(cluster)
    code, told = replay(cluster, environment, "--service", "assembler", "--into", tmp_path / "copy")
    assert code == 0, told
    assert (told["files"], told["incomplete"]) == (len(assembled), 0)
    assert contents(tmp_path / "copy") == contents(tree)
    assert (touched(tree), receipts_end(cluster)) == (before, receipts)
    code, output = headrace(cluster, "replay", "--service", "assembler", "--into", tree, environment=environment)
    assert (code, "its own destination" in output) == (2, True)


def test_files_outside_the_window_are_left_alone(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    for name in ("empty", "changing", "folder 1/file-1"):
        (tree / name).unlink()
    code, told = replay(cluster, environment, "--service", "assembler", "--from", "1000000")
    assert (code, told["services"][0]["again"]) == (0, 0)
    code, told = replay(cluster, environment, "--service", "assembler", "--to", "1h", "--dry-run")
    assert (code, told["services"][0]["again"]) == (0, 0)
    code, told = replay(cluster, environment, "--service", "assembler", "--from", "1h", "--to", "1000000")
    assert (code, told["services"][0]["again"]) == (0, 3)


def test_what_has_expired_on_the_log_is_said_and_keeps_its_receipt(
    cluster: Cluster, assembled: list[FedFile], tree: Path, environment: dict[str, str]
) -> None:
    (tree / "empty").unlink()
    name = cluster.topic_name(CHUNKS)
    ends = [TopicPartition(name, number, -1) for number in range(cluster.partitions(CHUNKS))]
    admin = cluster.admin()
    for future in admin.delete_records(ends).values():
        future.result()
    code, told = replay(cluster, environment, "--service", "assembler")
    assert (code, told["services"][0]["kept"]["expired"], told["services"][0]["again"]) == (1, 1, 0)
    assert books(cluster).exit_code == 0
    code, told = replay(cluster, environment, "--service", "assembler", "--into", tree.parent / "copy")
    assert (code, told["expired"]) == (1, len(assembled))


@pytest.mark.s3
def test_an_intact_bucket_sees_no_writing_request_and_what_is_missing_is_put_again(
    cluster: Cluster, feeder: Feeder, s3: S3Server, bucket: str, environment: dict[str, str], tmp_path: Path
) -> None:
    files = [*material(), FedFile(b"large", os.urandom(6 * 1024 * 1024), chunk=256 * 1024), FedFile(b"last", b"x")]
    send(feeder, files)
    with faulty(s3.port) as proxy:
        place = {"endpoint": proxy.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
        environment |= {f"HEADRACE_ARCHIVER__{name.upper()}": value for name, value in place.items()}
        environment |= {"HEADRACE_ARCHIVER__SINK": "test", "HEADRACE_ARCHIVER__PART_SIZE": "5MiB"}
        own = ArchiverSettings.model_validate({**place, "sink": "test", "part_size": "5MiB"})
        assemble(cluster, Archiver(own), len(files))
        client = s3.client()
        keys = {each["Key"]: each["ETag"] for each in client.list_objects_v2(Bucket=bucket)["Contents"]}
        assert len(keys) == len(files)

        proxy.requests.clear()
        code, told = replay(cluster, environment, "--service", "archiver")
        assert (code, told["services"][0]["kept"]) == (0, {"intact": len(files)})
        assert not proxy.writes()
        assert {method for method, _ in proxy.requests} <= {"GET", "HEAD"}

        gone = [key for key in keys if key.endswith(("large", "file-4"))]
        for key in gone:
            client.delete_object(Bucket=bucket, Key=key)
        proxy.requests.clear()
        code, told = replay(cluster, environment, "--service", "archiver")
        assert (code, told["services"][0]["outcomes"]) == (0, {"delivered": 2})
        written = {path.partition("?")[0].removeprefix(f"/{bucket}/") for _, path in proxy.writes()}
        assert len(written) == 2
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == len(files)
        assert books(cluster).exit_code == 0

        other = s3.create_bucket(f"{bucket}-copy")
        proxy.requests.clear()
        code, told = replay(cluster, environment, "--service", "archiver", "--into", other)
        assert (code, told["outcomes"]) == (0, {"delivered": len(files)})
        assert not [path for _, path in proxy.writes() if not path.startswith(f"/{other}/")]
        assert {each["Key"] for each in client.list_objects_v2(Bucket=other)["Contents"]} == keys.keys()


def test_wrong_usage_says_what_to_do(cluster: Cluster, environment: dict[str, str]) -> None:
    for arguments, words in (
        ((), "--service"),
        (("--service", "nothing"), "Known services"),
        (("--service", "directory_source"), "reads no topics"),
        (("--service", "assembler", "--sink", "elsewhere", "--set", "root"), "NAME=VALUE"),
        (("--service", "assembler", "--sink", "elsewhere"), "Known groups"),
        (("--service", "assembler", "--dry-run"), "Known groups"),
        (("--file", "a"), "Known groups"),
    ):
        code, output = headrace(cluster, "replay", *arguments, environment=environment)
        assert (code, words in output) == (2, True), output
