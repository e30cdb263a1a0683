"""Assembling against raw consume plus a plain write; small files against a plain write, fsync, rename loop.

Run it: `python -m tests.bench.assemble`. Both sides are measured from their first message to their last effect, so that
joining a group counts for neither. Ours verifies and syncs; the plain consumer does neither. Large files are deleted
after a run, since the page cache of all runs would fill the memory. Small ones stay: ext4 goes round inodes that were
deleted in the last minute, one by one for each new file, which cost both sides 0.5 ms a file.
"""

from __future__ import annotations

import os
import random
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import confluent_kafka

from headrace.kafka.clients import Cluster
from headrace.stage.loop import Loop
from headrace.topics import CHUNKS
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.bench.common import bench_broker, compare, conditions
from tests.bench.timing import Timer
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster

MEBIBYTE = 1024 * 1024
SMALL_FILES, SMALL_BYTES = 5000, 10_000


def assemble(cluster: Cluster, root: Path, sink: str, files: int) -> float:
    timer = Timer(files)
    loop = Loop(Assembler(AssemblerSettings(root=root)), cluster, sink=sink, middleware=[timer])
    stop = threading.Event()
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    if not timer.done.wait(120):
        raise SystemExit("the assembler did not finish within 120 s")
    stop.set()
    thread.join()
    return timer.seconds


def consume_and_write(cluster: Cluster, root: Path, messages: int) -> float:
    """What the plainest program does: consume, and append the bytes to one file."""
    root.mkdir(parents=True)
    consumer = cluster.consumer(None)
    name = cluster.topic_name(CHUNKS)
    consumer.assign([confluent_kafka.TopicPartition(name, number, 0) for number in range(cluster.partitions(CHUNKS))])
    first = 0.0
    with (root / "plain").open("wb", buffering=0) as out:
        while messages:
            for message in consumer.consume(min(100, messages), 1.0):
                first = first or time.perf_counter()
                out.write(message.value())
                messages -= 1
    seconds = time.perf_counter() - first
    consumer.close()
    return seconds


def write_sync_rename(root: Path, contents: Sequence[bytes]) -> float:
    """What a careful plain program does, file by file."""
    root.mkdir(parents=True)
    start = time.perf_counter()
    for number, content in enumerate(contents):
        partial = root / f"{number}.partial"
        with partial.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.rename(root / str(number))
    return time.perf_counter() - start


def deleted(root: Path, side: Callable[[Path], float]) -> float:
    """The seconds that `side` takes in a folder, which is gone afterwards."""
    seconds = side(root)
    shutil.rmtree(root)
    return seconds


def large(cluster: Cluster, folder: Path, chunk: int, size: int, count: int) -> bool:
    feeder = Feeder(cluster)
    messages = 0
    for number in range(count):
        file = FedFile(f"large-{number}".encode(), random.Random(number).randbytes(size), chunk=chunk)
        frames = file.frames()
        messages += len(frames)
        feeder.send(file, *frames)
        feeder.flush()
    label = f"assembling {count} x {size // MEBIBYTE} MiB, {chunk // 1024} KiB chunks, verified and synced"
    return compare(
        f"{label}, against raw consume plus a plain write",
        lambda run: deleted(
            folder / f"ours-{chunk}-{run}", lambda root: assemble(cluster, root, f"large-{chunk}-{run}", count)
        ),
        lambda run: deleted(folder / f"plain-{chunk}-{run}", lambda root: consume_and_write(cluster, root, messages)),
        wanted=0.6,
        amount=count * size / 1e6,
        unit="MB/s",
    ).show()


def small(cluster: Cluster, folder: Path) -> bool:
    feeder = Feeder(cluster)
    contents = [random.Random(number).randbytes(SMALL_BYTES) for number in range(SMALL_FILES)]
    for number, content in enumerate(contents):
        file = FedFile(f"small/{number}".encode(), content)
        feeder.send(file, file.whole())
    feeder.flush()
    return compare(
        f"assembling {SMALL_FILES} x {SMALL_BYTES} B, verified and synced, against write, fsync, rename one by one",
        lambda run: assemble(cluster, folder / f"ours-small-{run}", f"small-{run}", SMALL_FILES),
        lambda run: write_sync_rename(folder / f"plain-small-{run}", contents),
        wanted=1.5,
        amount=SMALL_FILES,
        unit="files/s",
    ).show()


def main() -> int:
    conditions()
    with bench_broker() as (broker, folder):
        reached = [
            large(new_cluster(broker.bootstrap, "large."), folder, 256 * 1024, 64 * MEBIBYTE, 12),
            large(new_cluster(broker.bootstrap, "fine."), folder, 16 * 1024, 32 * MEBIBYTE, 8),
            small(new_cluster(broker.bootstrap, "small."), folder),
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
