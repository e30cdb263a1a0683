"""`headrace verify` on a real log whose events and receipts are written here."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import confluent_kafka
import msgspec
import pytest

from headrace import cli
from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.config import KafkaSettings
from headrace.events import Covers, FileEvent, Outcome, UploadAck
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key, file_id, partition_of, path_id
from headrace.sandbox.s3 import S3Server
from headrace.topics import CHUNKS, FILES, SPINE, UPLOAD_ACKS

pytestmark = pytest.mark.kafka

PARTITIONS = 3
CONTENT = b"0123456789"


class Log:
    """Writes what sources and groups would."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.producer = cluster.producer()
        create_missing(cluster, SPINE)

    @property
    def prefix(self) -> str:
        return self.cluster.settings.prefix

    def group(self, name: str, *, read_to: int | None = 100) -> str:
        """A group, with everything up to an offset committed in every partition."""
        full = self.prefix + name
        if read_to is not None:
            consumer = self.cluster.consumer(full)
            wire = self.cluster.topic_name(CHUNKS)
            offsets = [confluent_kafka.TopicPartition(wire, number, read_to) for number in range(PARTITIONS)]
            consumer.commit(offsets=offsets, asynchronous=False)
            consumer.close()
        return full

    def sent(self, path: bytes, *, attempt: int = 0, **changes: object) -> FileEvent:
        path_key = path_id("lab", path)
        event = FileEvent(
            path_id=path_key,
            file=file_id("lab", path, 7, len(CONTENT), 1_000, attempt),
            source="lab",
            path=path,
            state="announced",
            attempt=attempt,
            inode=7,
            mtime_ns=1_000,
            size=len(CONTENT),
            alg="sha256",
            hash=hashlib.sha256(CONTENT).digest(),
            partition=partition_of(path_key.hex(), PARTITIONS),
            first=10,
            last=20,
            at=time.time_ns() // 1000,
        )
        event = msgspec.structs.replace(event, **changes)
        key = encode_key((event.path_id.hex(), event.file.hex()))
        self._put(FILES.name, key, event.partition, avro.encode(event))
        return event

    def received(
        self, event: FileEvent, group: str, outcome: Outcome = "delivered", code: str | None = None, **changes: object
    ) -> UploadAck:
        ack = UploadAck(
            group=group,
            item=event.file.hex(),
            file=event.file,
            partition=event.partition,
            first=10,
            last=20,
            covers=[Covers(outcome=outcome, code=code)],
            where="file:///tree/" + quote(event.path),
            alg=event.alg,
            hash=event.hash,
            size=event.size,
            at=time.time_ns() // 1000,
        )
        ack = msgspec.structs.replace(ack, **changes)
        key = encode_key((event.path_id.hex(), group, ack.item))
        self._put(UPLOAD_ACKS.name, key, event.partition, avro.encode(ack))
        return ack

    def _put(self, topic: str, key: bytes, partition: int, value: bytes) -> None:
        self.producer.produce(self.prefix + topic, value, key, partition=partition)
        assert self.producer.flush(10) == 0


@pytest.fixture
def log(broker: EmbeddedBroker, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setenv("HEADRACE_KAFKA__BOOTSTRAP", broker.bootstrap)
    monkeypatch.setenv("HEADRACE_KAFKA__PREFIX", prefix)
    return Log(Cluster(KafkaSettings(bootstrap=broker.bootstrap, prefix=prefix, partitions=PARTITIONS)))


Verify = Callable[..., tuple[int, str]]


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Runs `headrace verify`; gives the exit code and what stands on standard output."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = cli.run(["verify", *arguments])
        out, err = capsys.readouterr()
        return code, out + err

    return run


def objects(output: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The files by path or id, and the summary."""
    lines = [json.loads(line) for line in output.splitlines()]
    *files, summary = lines
    assert summary["kind"] == "summary"
    assert all(file["kind"] == "file" for file in files)
    return {file.get("path", file["file"]): file for file in files}, summary


def last_line(output: str) -> str:
    return output.rstrip().splitlines()[-1]


def test_everything_received_by_everybody_balances(log: Log, verify: Verify) -> None:
    groups = [log.group("assembler.main"), log.group("archiver.lake")]
    for number in range(20):
        event = log.sent(b"run/%d.bin" % number)
        for group in groups:
            log.received(event, group)
    code, output = verify("--json")
    files, summary = objects(output)
    assert code == 0
    assert len(files) == 20
    assert summary["exit_code"] == 0
    assert summary["groups"][groups[0]]["delivered"] == summary["groups"][groups[1]]["delivered"] == 20
    assert files["run/7.bin"]["groups"][groups[0]]["hashes_equal"] is True
    code, output = verify()
    assert code == 0
    assert last_line(output).startswith("Balanced: 20 file versions")
    assert "run/7.bin" in output


def test_what_one_group_lacks_is_told_as_missing_or_open(log: Log, verify: Verify) -> None:
    tree, lake = log.group("assembler.main"), log.group("archiver.lake", read_to=15)
    for name in (b"a", b"b"):
        log.received(log.sent(name), tree)
    log.sent(b"lost")
    code, output = verify("--json")
    files, summary = objects(output)
    assert code == 1
    assert files["lost"]["groups"][tree]["status"] == "missing"
    assert files["lost"]["groups"][lake]["status"] == "open"
    assert summary["groups"][tree] == summary["groups"][tree] | {"sent": 3, "delivered": 2, "missing": 1, "open": 0}
    assert summary["groups"][lake] == summary["groups"][lake] | {"sent": 3, "open": 3}
    code, output = verify()
    assert code == 1
    assert last_line(output).startswith("Not balanced: 1 missing, 3 still open")


def test_one_sink_can_be_asked_alone(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    log.group("archiver.lake", read_to=15)
    log.received(log.sent(b"a"), tree)
    assert verify("--sink", "lake")[0] == 1
    for name in ("main", "assembler.main", tree):
        assert verify("--sink", name)[0] == 0
    code, output = verify("--sink", "nowhere")
    assert code == 2
    assert "archiver.lake" in output


def test_a_file_that_the_sink_asked_for_need_not_have_is_not_held_against_it(log: Log, verify: Verify) -> None:
    tree, night = log.group("assembler.main"), log.group("csv_fanout.night")
    log.received(log.sent(b"run/plain"), tree)
    personal = log.sent(b"personal.csv", topic="chunks-personal", dataset="students")
    log.received(personal, night)
    assert verify()[0] == 0
    for sink in ("main", "night"):
        code, output = verify("--sink", sink, "--json")
        files, summary = objects(output)
        assert (code, len(files), summary["exit_code"]) == (0, 1, 0)
    assert verify("run/plain", "--sink", "night")[0] == 0


def test_a_fan_out_that_runs_at_night_only_need_not_have_files_of_no_dataset(
    log: Log, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, night = log.group("assembler.main"), log.group("csv_fanout.night", read_to=15)
    for number in range(6):
        log.received(log.sent(b"run/%d" % number), tree)
    assert verify()[0] == 0
    students = log.sent(b"students.csv", dataset="students")
    log.received(students, tree)
    code, output = verify("--json")
    files, summary = objects(output)
    assert code == 1
    assert files["students.csv"]["groups"][night]["status"] == "open"
    assert summary["groups"][night]["sent"] == 1
    log.received(students, night)
    assert verify()[0] == 0
    # Where settings say that it takes files by their paths, it must have them.
    monkeypatch.setenv("HEADRACE_CSV_FANOUT__SINK", "night")
    monkeypatch.setenv("HEADRACE_CSV_FANOUT__PATHS", json.dumps({"art_students": "run/"}))
    code, output = verify()
    assert code == 1
    assert last_line(output).startswith("Not balanced: 6 still open")


def test_a_fan_out_that_handled_a_file_of_no_dataset_must_have_those_of_other_partitions_too(
    log: Log, verify: Verify
) -> None:
    tree, night = log.group("assembler.main"), log.group("csv_fanout.night")
    handled, *others = (log.sent(name) for name in (b"run/0", b"run/1", b"run/5"))
    assert [handled.partition, *(event.partition for event in others)] == [1, 2, 0]
    for event in (handled, *others):
        log.received(event, tree)
    log.received(handled, night)
    for arguments in ([], ["--since", "1h"], ["run/1"], ["run/5"]):
        code, output = verify(*arguments, "--json")
        files, _ = objects(output)
        assert code == 1
        for name in files.keys() - {"run/0"}:
            assert files[name]["groups"][night]["status"] == "missing"


def test_another_hash_than_the_senders_is_a_failure(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    log.received(log.sent(b"a"), tree, hash=b"x" * 32)
    code, output = verify()
    assert code == 1
    assert "hash-differs" in output


def test_what_was_put_aside_ends_with_exit_code_3(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    log.received(log.sent(b"a"), tree)
    log.received(log.sent(b"../b"), tree, "dead_lettered", "unsafe-path")
    code, output = verify()
    assert code == 3
    assert "unsafe-path" in output
    assert last_line(output).startswith("Balanced, with 1 dead-lettered or held")


def test_a_later_attempt_settles_a_failed_one(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    log.received(log.sent(b"a"), tree, "failed", "expired")
    log.received(log.sent(b"a", attempt=1), tree)
    code, output = verify()
    assert code == 0
    assert "settled by a later attempt" in output


def test_aborted_and_superseded_versions_are_accounted_for(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    log.sent(b"a", state="aborted", hash=None)
    log.received(log.sent(b"b"), tree, "unchanged", "superseded")
    code, output = verify("--json")
    files, _ = objects(output)
    assert code == 0
    assert files["a"]["groups"][tree]["code"] == "aborted"


def test_nobody_reading_is_not_balanced(log: Log, verify: Verify) -> None:
    log.sent(b"a")
    code, output = verify()
    assert code == 1
    assert last_line(output).startswith("Not balanced: no group has read")


def test_an_empty_log_has_nothing_to_verify(log: Log, verify: Verify) -> None:
    code, output = verify()
    assert code == 0
    assert last_line(output).startswith("Nothing to verify")


@pytest.mark.parametrize("how", ["path", "end", "id", "source"])
def test_one_file_is_found_by_what_a_user_calls_it(log: Log, verify: Verify, how: str) -> None:
    tree = log.group("assembler.main")
    for number in range(9):
        event = log.sent(b"run 1/%d.bin" % number)
        if number != 4:
            log.received(event, tree)
        else:
            asked = event
    arguments: Sequence[str] = {
        "path": ["run 1/4.bin"],
        "end": ["4.bin"],
        "id": [asked.file.hex()],
        "source": ["run 1/4.bin", "--source", "lab"],
    }[how]
    code, output = verify(*arguments, "--json")
    files, summary = objects(output)
    assert code == 1
    assert list(files) == ["run 1/4.bin"]
    assert summary["versions"] == 1
    assert verify("5.bin")[0] == 0


def test_an_earlier_attempt_asked_for_by_its_id_is_settled_all_the_same(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    first = log.sent(b"a")
    log.received(first, tree, "failed", "expired")
    log.received(log.sent(b"a", attempt=1), tree)
    code, output = verify(first.file.hex(), "--json")
    files, summary = objects(output)
    assert code == 0
    assert summary["versions"] == 1
    assert "settled_by" in files["a"]["groups"][tree]


def test_a_file_that_was_never_sent_is_not_there(log: Log, verify: Verify) -> None:
    log.group("assembler.main")
    log.sent(b"a")
    code, output = verify("b")
    assert code == 1
    assert last_line(output).startswith("Nothing to verify")


def test_names_cannot_steer_the_terminal_and_keep_their_bytes(log: Log, verify: Verify) -> None:
    log.group("assembler.main")
    log.sent(b"x\x1b[2J\xff[bold]")
    _, output = verify()
    assert "\x1b[2J" not in output
    assert r"x\x1b[2J\xff[bold]" in output
    files, _ = objects(verify("--json")[1])
    (file,) = files.values()
    assert file["path_base64"] == "eBtbMkr/W2JvbGRd"


def test_since_takes_what_anything_happened_to_and_all_that_is_known_of_it(log: Log, verify: Verify) -> None:
    tree, lake = log.group("assembler.main"), log.group("archiver.lake")
    old, late, early = log.sent(b"old"), log.sent(b"late"), log.sent(b"early", state="sending")
    log.received(old, tree)
    log.received(late, tree)
    log.received(early, tree)
    time.sleep(0.05)
    moment = time.time()
    time.sleep(0.05)
    log.received(late, lake)
    log.sent(b"early")
    log.received(early, lake)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(moment)) + f"{moment % 1:.6f}"[1:]
    code, output = verify("--since", text, "--json")
    files, _ = objects(output)
    assert files.keys() == {"late", "early"}
    assert all(file["good"] for file in files.values())
    assert code == 0
    assert verify("--since", "1h")[0] == 1
    assert verify("--since", "yesterday")[0] == 2


def test_a_message_that_is_no_event_is_told_and_not_in_the_way(log: Log, verify: Verify) -> None:
    tree = log.group("assembler.main")
    log.received(log.sent(b"a"), tree)
    for topic in (FILES, UPLOAD_ACKS):
        log._put(topic.name, b"key", 0, b"\xc3\x01 no event")
    code, output = verify()
    assert code == 0
    assert "2 messages could not be decoded" in output


class TestDeep:
    """The destinations are read again."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        (tmp_path / "tree" / ".headrace").mkdir(parents=True)
        return tmp_path / "tree"

    def deliver(self, log: Log, tree: Path, group: str, name: str, **changes: object) -> Path:
        place = tree / name
        place.write_bytes(CONTENT)
        log.received(log.sent(name.encode(), **changes), group, where=f"file://{quote(str(place))}")
        return place

    def test_intact_files_are_confirmed(self, log: Log, verify: Verify, tree: Path) -> None:
        self.deliver(log, tree, log.group("assembler.main"), "a ü%.bin")
        code, output = verify("--deep")
        assert code == 0
        assert "Destinations read again: 1 intact" in output

    @pytest.mark.parametrize("damage", ["changed", "shortened", "removed"])
    def test_damage_is_found(self, log: Log, verify: Verify, tree: Path, damage: str) -> None:
        place = self.deliver(log, tree, log.group("assembler.main"), "a")
        if damage == "changed":
            place.write_bytes(CONTENT[:-1] + b"x")
        elif damage == "shortened":
            place.write_bytes(CONTENT[:-1])
        else:
            place.unlink()
        assert verify()[0] == 0
        code, output = verify("--deep", "--json")
        files, summary = objects(output)
        assert code == 1
        (entry,) = files["a"]["groups"].values()
        assert entry["destination"] == ("gone" if damage == "removed" else "differs")
        assert summary["verdict"].startswith("Lost at the destination: 1.")

    def test_a_tree_on_another_machine_is_told_apart_from_a_loss(self, log: Log, verify: Verify, tree: Path) -> None:
        place = self.deliver(log, tree, log.group("assembler.main"), "a")
        place.unlink()
        (tree / ".headrace").rmdir()
        code, output = verify("--deep")
        assert code == 0
        assert "unreadable (this machine has no such tree)" in output

    def test_a_replaced_version_is_not_a_loss(self, log: Log, verify: Verify, tree: Path) -> None:
        group = log.group("assembler.main")
        self.deliver(log, tree, group, "a", hash=b"o" * 32)
        newer = log.sent(b"a", mtime_ns=2_000, file=b"n" * 16)
        log.received(newer, group, where=f"file://{tree}/a", first=30, last=31)
        code, output = verify("--deep", "--json")
        files = [json.loads(line) for line in output.splitlines()][:-1]
        assert code == 0
        assert sorted(file["groups"][group]["destination"] for file in files) == ["intact", "replaced"]

    @pytest.mark.s3
    def test_objects_are_read_again_where_a_store_is_named(
        self, log: Log, verify: Verify, s3: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake = log.group("archiver.lake")
        client = s3.client()
        for key in ("good?#%25", "changed", "lost"):
            client.put_object(Bucket=bucket, Key=key, Body=CONTENT)
            log.received(log.sent(key.encode()), lake, where=f"s3://{bucket}/{key}")
        code, output = verify("--deep")
        assert code == 0
        assert "no settings here name its store" in output
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_key)
        assert verify("--deep", "--endpoint", s3.endpoint)[0] == 0
        client.put_object(Bucket=bucket, Key="changed", Body=b"something else")
        client.delete_object(Bucket=bucket, Key="lost")
        code, output = verify("--deep", "--endpoint", s3.endpoint, "--json")
        files, _ = objects(output)
        assert code == 1
        found = {name: file["groups"][lake]["destination"] for name, file in files.items()}
        assert found == {"good?#%25": "intact", "changed": "differs", "lost": "gone"}
