"""The oracle finds what is planted: a loss, a duplicate, a wrong byte. One that finds nothing would prove nothing."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.events import Covers, Outcome, UploadAck
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key
from headrace.sandbox.s3 import S3Server
from headrace.topics import UPLOAD_ACKS
from tests.support import books, oracle
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster
from tests.support.verifying import summary_of

pytestmark = pytest.mark.kafka

GROUP = "assembler.test"


@dataclass
class World:
    """A few files on the log, a tree and receipts that agree with it."""

    cluster: Cluster
    feeder: Feeder
    tree: Path
    scratch: Path
    files: list[FedFile]

    @property
    def prefix(self) -> str:
        return self.cluster.settings.prefix

    def truth(self) -> oracle.Truth:
        return oracle.rebuild(self.cluster.bootstrap, self.prefix, self.scratch)

    def place(self, file: FedFile) -> Path:
        path = self.tree / os.fsdecode(file.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        os.utime(path, ns=(file.mtime_ns, file.mtime_ns))
        return path

    def receipt(self, file: FedFile, outcome: Outcome = "delivered", **changes: Any) -> None:
        event = file.event(self.feeder.partition(file), 0, 1)
        ack = UploadAck(
            group=self.prefix + GROUP,
            item=file.item,
            file=file.file,
            partition=event.partition,
            first=0,
            last=1,
            covers=[Covers(outcome=outcome)],
            **{"alg": "sha256", "hash": event.hash, **changes},
            at=1,
        )
        key = encode_key((file.path_id.hex(), ack.group, ack.item))
        self.feeder.raw(UPLOAD_ACKS, avro.encode(ack), key, event.partition)
        self.feeder.flush()

    def receipts_wrong(self) -> list[str]:
        groups = [self.prefix + GROUP]
        return oracle.check_receipts(self.truth(), self.cluster.bootstrap, self.prefix, groups)

    def tree_wrong(self) -> list[str]:
        return oracle.check_folder(self.truth(), self.tree)


@pytest.fixture
def world(broker: EmbeddedBroker, prefix: str, tmp_path: Path) -> World:
    cluster = new_cluster(broker.bootstrap, prefix)
    feeder = Feeder(cluster)
    tree = tmp_path / "tree"
    tree.mkdir()
    files = [
        FedFile(b"a/large.bin", os.urandom(50_000)),
        FedFile(b"small", b"content"),
        FedFile(b"empty", b""),
        FedFile(b"tab\t\xff", b"x"),
    ]
    world = World(cluster, feeder, tree, tmp_path, files)
    large, *small = files
    # Out of order, and with a frame twice: the truth is the same.
    first, *rest = large.frames()
    feeder.send(large, first, *reversed(rest[:-1]), rest[3], rest[-1])
    for file in small:
        feeder.send(file, file.whole())
    for file in files:
        world.place(file)
        world.receipt(file)
    return world


def test_a_world_in_order_is_found_in_order(world: World) -> None:
    assert world.tree_wrong() == []
    assert world.receipts_wrong() == []
    assert len(world.truth().whole) == 4


def lose(world: World) -> None:
    (world.tree / "small").unlink()


def duplicate(world: World) -> None:
    (world.tree / "small (1)").write_bytes(b"content")


def leave_a_partial(world: World) -> None:
    (world.tree / ".headrace").mkdir()
    (world.tree / ".headrace" / "00").write_bytes(b"")


def change_a_byte(world: World) -> None:
    world.place(dataclasses.replace(world.files[0], content=b"x" + world.files[0].content[1:]))


def cut(world: World) -> None:
    world.place(dataclasses.replace(world.files[0], content=world.files[0].content[:-1]))


def touch(world: World) -> None:
    (world.tree / "empty").touch()


def link(world: World) -> None:
    (world.tree / "small").rename(world.tree.parent / "elsewhere")
    (world.tree / "small").symlink_to(world.tree.parent / "elsewhere")


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (lose, "lost"),
        (duplicate, "extra"),
        (leave_a_partial, "extra"),
        (change_a_byte, "wrong bytes"),
        (cut, "wrong bytes"),
        (touch, "wrong time"),
        (link, "not a file"),
    ],
)
def test_what_is_planted_in_a_tree_is_found(world: World, plant: Callable[[World], None], said: str) -> None:
    plant(world)
    (wrong,) = world.tree_wrong()
    assert wrong.startswith(said)


def test_an_old_version_in_place_of_the_new_one_is_found(world: World) -> None:
    newer = FedFile(b"small", b"newer content", mtime_ns=world.files[1].mtime_ns + 1)
    world.feeder.send(newer, newer.whole())
    world.feeder.flush()
    (wrong,) = world.tree_wrong()
    assert wrong.startswith("wrong bytes: b'small'")
    world.place(newer)
    assert world.tree_wrong() == []


def test_a_late_old_version_does_not_count_as_the_newest(world: World) -> None:
    new = FedFile(b"late", b"new", ctime_ns=2)
    old = FedFile(b"late", b"old", ctime_ns=1)
    world.feeder.send(new, new.whole())
    world.feeder.send(old, old.whole())
    world.feeder.flush()
    world.place(new)
    assert world.tree_wrong() == []


def test_a_missing_receipt_is_found(world: World) -> None:
    silent = FedFile(b"silent", b"x")
    world.feeder.send(silent, silent.whole())
    world.feeder.flush()
    (wrong,) = world.receipts_wrong()
    assert wrong.startswith("no receipt of")


def test_a_failure_of_what_is_whole_is_found(world: World) -> None:
    file = FedFile(b"refused", b"x")
    world.feeder.send(file, file.whole())
    world.receipt(file, "failed")
    (wrong,) = world.receipts_wrong()
    assert "which is whole" in wrong


def test_a_confirmation_without_the_bytes_is_found(world: World) -> None:
    file = FedFile(b"partly", bytes(9000))
    world.feeder.send(file, *file.frames()[:2], file.close())
    world.receipt(file)
    (wrong,) = world.receipts_wrong()
    assert "of which bytes are missing" in wrong


def test_a_confirmation_of_another_hash_is_found(world: World) -> None:
    world.receipt(world.files[1], hash=b"x" * 32)
    (wrong,) = world.receipts_wrong()
    assert "confirms another hash" in wrong


@pytest.mark.s3
class TestBucket:
    @pytest.fixture
    def client(self, s3: S3Server) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=s3.endpoint,
            region_name="us-east-1",
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
        )

    @pytest.fixture
    def filled(self, world: World, client: Any, bucket: str) -> World:
        for number, file in enumerate(world.files):
            client.put_object(Bucket=bucket, Key=f"key/{number}", Body=file.content)
        return world

    def test_a_bucket_in_order_is_found_in_order(self, filled: World, client: Any, bucket: str) -> None:
        assert oracle.check_bucket(filled.truth(), client, bucket) == []

    def test_a_loss_is_found(self, filled: World, client: Any, bucket: str) -> None:
        client.delete_object(Bucket=bucket, Key="key/1")
        (wrong,) = oracle.check_bucket(filled.truth(), client, bucket)
        assert wrong.startswith("lost in the bucket: 1")

    def test_a_duplicate_is_found(self, filled: World, client: Any, bucket: str) -> None:
        client.put_object(Bucket=bucket, Key="key/1 again", Body=filled.files[1].content)
        (wrong,) = oracle.check_bucket(filled.truth(), client, bucket)
        assert wrong.startswith("extra in the bucket: 1")

    def test_wrong_bytes_are_found(self, filled: World, client: Any, bucket: str) -> None:
        client.put_object(Bucket=bucket, Key="key/0", Body=b"x" + filled.files[0].content[1:])
        assert len(oracle.check_bucket(filled.truth(), client, bucket)) == 2

    def test_an_upload_left_over_is_found(self, filled: World, client: Any, bucket: str) -> None:
        client.create_multipart_upload(Bucket=bucket, Key="key/stale")
        (wrong,) = oracle.check_bucket(filled.truth(), client, bucket)
        assert wrong == "upload left over: 'key/stale'"


def books_wrong(world: World, summary: dict[str, Any]) -> list[str]:
    return books.wrong_in_verify(books.told(world.cluster.bootstrap, world.prefix), summary)


def test_books_in_order_are_found_in_order_whatever_was_said_twice_or_by_a_sender_that_died(world: World) -> None:
    for file in world.files[:3]:
        world.feeder.announce(file)
    world.receipt(world.files[0])
    unread, failed = FedFile(b"unread", b"x"), FedFile(b"failed", b"y")
    for file in (unread, failed, dataclasses.replace(failed, attempt=1)):
        world.feeder.send(file, file.whole())
        world.feeder.announce(file)
    world.receipt(failed, "failed")
    world.receipt(dataclasses.replace(failed, attempt=1))
    summary = summary_of(world.cluster)
    (said,) = summary["groups"].values()
    assert (said["sent"], said["delivered"], said["failed"], said["settled"], said["open"]) == (7, 5, 1, 1, 1)
    assert books_wrong(world, summary) == []


@pytest.mark.parametrize("outcome", ["delivered", "failed", "dead_lettered"])
def test_books_that_have_one_too_many_or_too_few_are_found(world: World, outcome: Outcome) -> None:
    summary = summary_of(world.cluster)
    # What the books were drawn up without.
    one_more = FedFile(b"one more", b"x")
    world.receipt(one_more, outcome)
    (wrong,) = books_wrong(world, summary)
    assert "verify says" in wrong


def test_a_group_without_a_book_is_found(world: World) -> None:
    summary = summary_of(world.cluster)
    (wrong,) = books_wrong(world, {**summary, "groups": {}})
    assert wrong == f"verify knows nothing of {world.prefix}{GROUP}"
