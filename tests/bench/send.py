"""Sending files against raw confluent-kafka produce of the same bytes to the same broker.

Run it: `python -m tests.bench.send`. Both sides are connected before the clock starts, and end when the last byte is
acknowledged. Ours reads, hashes, frames, reports progress and announces; the raw side sends bytes that lie in memory,
without callbacks, in batches of 1 MB or 4 MB, whichever is faster.
"""

from __future__ import annotations

import os
import queue
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from headrace.kafka.clients import Cluster
from headrace.topics import CHUNKS, FILES
from headrace_files.sending.jobs import Job, Outcome, Result
from headrace_files.sending.sender import Options, Sender
from tests.bench.common import bench_broker, compare, conditions
from tests.support.running import new_cluster

MEGABYTE = 1_000_000
BLOCK = os.urandom(16 * MEGABYTE)
SMALL_FILES, SMALL_BYTES, SMALL_RATE = 5000, 10_000, 3000
BATCHES = (1_000_000, 4_000_000)


def make(folder: Path, count: int, size: int) -> list[Path]:
    """Files of random bytes, in the page cache."""
    folder.mkdir(parents=True)
    files = []
    for number in range(count):
        file = folder / f"{number:05}.bin"
        with file.open("wb") as out:
            left = size
            while left:
                start = number * 997 % 4096
                part = BLOCK[start : start + min(left, len(BLOCK) - start)]
                out.write(part)
                left -= len(part)
        files.append(file)
    return files


class Ours:
    """A sender, connected; each run sends the files again, which is what it does when asked."""

    def __init__(self, cluster: Cluster, files: list[Path], chunk: int, threads: int) -> None:
        self._ended: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._sender = Sender(cluster, Options("bench", chunk=chunk, threads=threads), self._ended.put)
        self._files = [(os.fsencode(file.name), os.fsencode(file)) for file in files]

    def run(self, _: int) -> float:
        began = time.perf_counter()
        for name, location in self._files:
            self._sender.submit(Job(name, location))
        self._sender.wait(600)
        seconds = time.perf_counter() - began
        while not self._ended.empty():
            assert self._ended.get().result is Result.ANNOUNCED
        return seconds

    def stop(self) -> None:
        self._sender.stop(10)


class Raw:
    """A raw producer, connected, that sends the same bytes in messages of the same size, over all partitions."""

    def __init__(self, cluster: Cluster, total: int, message: int, batch: int) -> None:
        self._refused = 0
        self._producer = cluster.producer(
            {"batch.size": batch, "delivery.report.only.error": True, "on_delivery": self._count}
        )
        self._name = cluster.topic_name(CHUNKS)
        self._partitions = cluster.partitions(CHUNKS)
        self._sizes = [message] * (total // message) + ([total % message] if total % message else [])
        self._producer.produce(self._name, b"warm", partition=0)
        self._producer.flush(10)

    def run(self, _: int) -> float:
        producer, name, partitions = self._producer, self._name, self._partitions
        began = time.perf_counter()
        for number, size in enumerate(self._sizes):
            start = number * 997 % 4096
            value = BLOCK[start : start + size]
            while True:
                try:
                    # A file's worth to one partition, as files do.
                    producer.produce(name, value, b"key", partition=(number // 40) % partitions)
                    break
                except BufferError:
                    producer.poll(0.01)
            producer.poll(0)
        producer.flush(60)
        seconds = time.perf_counter() - began
        assert not self._refused, f"the broker refused {self._refused} messages of the raw side"
        return seconds

    def _count(self, _error: object, _message: object) -> None:
        self._refused += 1


def raw(cluster: Cluster, total: int, message: int) -> Raw:
    """The faster of the two batch sizes, by a median of three."""
    sides = [Raw(cluster, total, message, batch) for batch in BATCHES]
    medians = [statistics.median(side.run(number) for number in range(3)) for side in sides]
    best = medians.index(min(medians))
    print(f"raw bound: batches of {BATCHES[best] // MEGABYTE} MB ({total / min(medians) / MEGABYTE:.0f} MB/s before)")
    return sides[best]


def clusters(bootstrap: str) -> Iterator[tuple[Cluster, Cluster]]:
    """Topics of their own for each side of each comparison: as the catalogue says for ours, wide ones for the raw."""
    number = 0
    while True:
        number += 1
        wide = new_cluster(bootstrap, f"raw{number}.", partitions=6)
        widen(wide)
        yield new_cluster(bootstrap, f"bench{number}.", partitions=6), wide


def widen(cluster: Cluster) -> None:
    """Let the topics take batches of 4 MB, which the raw side may need to be at its best."""
    admin = cluster.admin()
    entry = ConfigEntry("max.message.bytes", str(8 * 1024 * 1024), incremental_operation=AlterConfigOpType.SET)
    resources = [
        ConfigResource(ConfigResource.Type.TOPIC, cluster.topic_name(topic), incremental_configs=[entry])
        for topic in (CHUNKS, FILES)
    ]
    for answer in admin.incremental_alter_configs(resources).values():
        answer.result(20)


def small_files(cluster: Cluster, wide: Cluster, folder: Path, threads: int) -> bool:
    """5,000 files of 10 kB, each announced on its own; the raw side sends the same bytes and nothing else."""
    ours = Ours(cluster, make(folder, SMALL_FILES, SMALL_BYTES), 256 * 1024, threads)
    plain = raw(wide, SMALL_FILES * SMALL_BYTES, SMALL_BYTES)
    outcome = compare("5,000 x 10 kB", ours.run, plain.run, wanted=0.0, amount=SMALL_FILES, unit="files/s")
    ours.stop()
    outcome.show()
    rate = SMALL_FILES / statistics.median(outcome.ours)
    print(f"  wanted    {SMALL_RATE} files/s: {'reached' if rate >= SMALL_RATE else 'NOT reached'}")
    return rate >= SMALL_RATE


def main() -> None:
    """Run all comparisons; exit code 1 if one is not reached."""
    threads = int(os.environ.get("BENCH_THREADS", "3"))
    conditions()
    reached = True
    with bench_broker() as (broker, folder):
        fresh = clusters(broker.bootstrap)
        cases = [
            ("20 x 10 MB in 256 KiB chunks", 20, 10 * MEGABYTE, 256 * 1024, 0.75),
            ("1 x 1 GB in 256 KiB chunks", 1, 1000 * MEGABYTE, 256 * 1024, 0.75),
            ("20 x 10 MB in 16 KiB chunks", 20, 10 * MEGABYTE, 16 * 1024, 0.60),
        ]
        chosen = sys.argv[1:] or [str(number) for number in range(len(cases) + 1)]
        for number, (name, count, size, chunk, wanted) in enumerate(cases):
            if str(number) not in chosen:
                continue
            cluster, wide = next(fresh)
            files = make(folder / f"files{number}", count, size)
            ours, plain = Ours(cluster, files, chunk, threads), raw(wide, count * size, chunk)
            amount = count * size / MEGABYTE
            reached &= compare(name, ours.run, plain.run, wanted=wanted, amount=amount, unit="MB/s").show()
            ours.stop()
            for file in files:
                file.unlink()
        if str(len(cases)) in chosen:
            reached &= small_files(*next(fresh), folder / "small", threads)
    sys.exit(0 if reached else 1)


if __name__ == "__main__":
    main()
