"""Archiving against consuming and then uploading the same bytes, one after the other.

Run it: `python -m tests.bench.archive`. Both sides are measured from their first message to the last answer of the
store (ours: to the last receipt on the log), with clients that are connected already. The plain side keeps all bytes in
memory, verifies nothing and writes no receipts; it uploads large files with boto3's own transfer manager (8 MiB parts,
10 threads) and small ones with obstore from as many threads as the archiver has.
"""

from __future__ import annotations

import io
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

import confluent_kafka
import obstore
from obstore.store import S3Store

from headrace.kafka.clients import Cluster
from headrace.sandbox.s3 import S3Server
from headrace.stage.loop import Loop
from headrace.topics import CHUNKS
from headrace_files.archiver.service import Archiver
from headrace_files.archiver.settings import ArchiverSettings
from tests.bench.common import bench_broker, compare, conditions
from tests.bench.timing import Timer
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster

MEBIBYTE = 1024 * 1024
THREADS = 12

Upload = Callable[[str, bytes], None]


def archive(cluster: Cluster, s3: S3Server, sink: str, files: int) -> float:
    bucket = s3.create_bucket(f"ours-{uuid.uuid4().hex[:12]}")
    settings = ArchiverSettings.model_validate({
        "endpoint": s3.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key,
        "uploads": THREADS,
    })  # fmt: skip
    timer = Timer(files)
    archiver = Archiver(settings)
    archiver.connect()
    loop = Loop(archiver, cluster, sink=sink, middleware=[timer])
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    if not timer.done.wait(120):
        raise SystemExit("the archiver did not finish within 120 s")
    stop.set()
    thread.join()
    return timer.seconds


def consume_then_upload(
    cluster: Cluster, contents: Mapping[str, bytes], messages: int, upload: Upload, threads: int
) -> float:
    """What the plainest program does: consume everything, then upload it."""
    consumer = cluster.consumer(None)
    name = cluster.topic_name(CHUNKS)
    consumer.assign([confluent_kafka.TopicPartition(name, number, 0) for number in range(cluster.partitions(CHUNKS))])
    first = 0.0
    kept = []
    while messages:
        for message in consumer.consume(min(100, messages), 1.0):
            first = first or time.perf_counter()
            kept.append(message.value())
            messages -= 1
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(upload, contents, contents.values()))
    seconds = time.perf_counter() - first
    consumer.close()
    return seconds


def by_boto3(s3: S3Server) -> Callable[[], Upload]:
    client = s3.client()

    def prepare() -> Upload:
        bucket = s3.create_bucket(f"plain-{uuid.uuid4().hex[:12]}")
        return lambda key, body: client.upload_fileobj(io.BytesIO(body), bucket, key)

    return prepare


def by_obstore(s3: S3Server) -> Callable[[], Upload]:
    def prepare() -> Upload:
        store = S3Store(
            s3.create_bucket(f"plain-{uuid.uuid4().hex[:12]}"),
            endpoint=s3.endpoint,
            region=s3.region,
            access_key_id=s3.access_key,
            secret_access_key=s3.secret_key,
            client_options={"allow_http": True},
        )
        obstore.put(store, "warm", b"1")
        return lambda key, body: obstore.put(store, key, body)

    return prepare


def bench(
    label: str, cluster: Cluster, s3: S3Server, files: list[FedFile], prepare: Callable[[], Upload], threads: int
) -> bool:
    feeder = Feeder(cluster)
    messages = 0
    for file in files:
        frames = file.frames() if len(file.content) > MEBIBYTE else [file.whole()]
        messages += len(frames)
        feeder.send(file, *frames)
    feeder.flush()
    contents = {file.path.decode(): file.content for file in files}
    return compare(
        f"archiving {label}, against consuming and then uploading them",
        lambda run: archive(cluster, s3, f"{run}", len(files)),
        lambda _run: consume_then_upload(cluster, contents, messages, prepare(), threads),
        wanted=0.75,
        amount=sum(len(file.content) for file in files) / 1e6,
        unit="MB/s",
    ).show()


def random_files(count: int, size: int, chunk: int) -> list[FedFile]:
    return [
        FedFile(f"file/{number}".encode(), _random_bytes(random.Random(number), size), chunk=chunk)
        for number in range(count)
    ]


def _random_bytes(source: random.Random, size: int) -> bytes:
    # randbytes makes at most 256 MiB at once.
    return b"".join(source.randbytes(min(64 * MEBIBYTE, size - start)) for start in range(0, size, 64 * MEBIBYTE))


def main() -> int:
    conditions()
    with bench_broker() as (broker, folder), S3Server(folder / "s3") as s3:
        print(f"object store: {s3.kind} on the same machine and disk")
        chunk = 256 * 1024

        def run(label: str, name: str, files: list[FedFile], prepare: Callable[[], Upload], threads: int) -> bool:
            return bench(label, new_cluster(broker.bootstrap, f"{name}."), s3, files, prepare, threads)

        reached = [
            run("3,000 x 10 kB", "small", random_files(3000, 10_000, chunk), by_obstore(s3), THREADS),
            run("12 x 64 MiB", "large", random_files(12, 64 * MEBIBYTE, chunk), by_boto3(s3), 1),
            run("1 x 768 MiB", "one", random_files(1, 768 * MEBIBYTE, chunk), by_boto3(s3), 1),
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
