"""The archiver on real Kafka and a real S3 server: every version of a file becomes an object, nothing else is left."""

from __future__ import annotations

import hashlib
import random

import pytest

from headrace.broker import EmbeddedBroker
from headrace.events import UploadAck
from headrace.kafka.clients import Cluster
from headrace.sandbox.s3 import S3Server
from headrace_files.archiver.service import Archiver
from headrace_files.archiver.settings import ArchiverSettings
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster, receipts_on_log, running
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
