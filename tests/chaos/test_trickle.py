"""One large file that trickles through a partition during the whole run, beside many others, while copies die."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import psutil
import pytest

from headrace.broker import EmbeddedBroker
from headrace.chunks import frames
from headrace.keys import encode_key, file_id, path_id
from headrace.topics import CHUNKS
from tests.support.chaos import new_seed
from tests.support.feeding import Feeder
from tests.support.processes import Service
from tests.support.running import new_cluster, receipts_on_log
from tests.support.verifying import books_wrong
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.kafka]

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
CHUNK = 256 * KIBIBYTE
MOST_MEMORY = 300 * MEBIBYTE


class Stream:
    """A file of any size whose frames are made one by one; nothing of it is kept."""

    def __init__(self, name: str, size: int, seed: int) -> None:
        self.path = name.encode()
        self.size = size
        self.digest = b""
        self._block = Random(f"{seed} {name}").randbytes(CHUNK)
        self._path_id = path_id("test", self.path)
        self.file = file_id("test", self.path, seed, size, 1, 0)
        self.key = encode_key((self._path_id.hex(), self.file.hex()))

    def frames(self) -> Iterator[bytes]:
        yield frames.encode(
            frames.Open(v=1, source="test", path=self.path, chunk=CHUNK, mtime_ns=1, attempt=0, size=self.size)
        )
        running = hashlib.sha256()
        count = 0
        for offset in range(0, self.size, CHUNK):
            turn = count % CHUNK
            data = (self._block[turn:] + self._block[:turn])[: self.size - offset]
            running.update(data)
            yield frames.encode(frames.Data(v=1, i=count, off=offset, b=memoryview(data)))
            count += 1
        self.digest = running.digest()
        yield frames.encode(frames.Close(v=1, n=count, size=self.size, alg="sha256", hash=self.digest))


def interleave(
    feeder: Feeder, large: Stream, others: list[Stream], at_once: int, pace: Callable[[float], None]
) -> None:
    """Send frames of `at_once` others in turn, and of the large one so that it lasts until the end."""
    waiting = list(others)
    open_streams: list[tuple[Stream, Iterator[bytes]]] = []
    trickle = large.frames()
    total = sum(other.size // CHUNK + 2 for other in others)
    rounds = total / at_once
    each = max(1, int((large.size / CHUNK) / rounds))
    sent = 0
    while waiting or open_streams:
        while waiting and len(open_streams) < at_once:
            stream = waiting.pop()
            open_streams.append((stream, stream.frames()))
        for entry in list(open_streams):
            value = next(entry[1], None)
            if value is None:
                open_streams.remove(entry)
                continue
            feeder.raw(CHUNKS, value, entry[0].key, 0)
            sent += 1
        for _, value in zip(range(each), trickle, strict=False):
            feeder.raw(CHUNKS, value, large.key, 0)
        feeder.flush()
        pace(sent / total)
    for value in trickle:
        feeder.raw(CHUNKS, value, large.key, 0)
    feeder.flush()


def rebuilt(place: Path) -> bytes:
    with place.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()


def run(broker: EmbeddedBroker, prefix: str, folder: Path, say: Callable[[str], None], size: int, kills: int) -> None:
    seed = new_seed()
    choose = Random(seed)
    cluster = new_cluster(broker.bootstrap, prefix, partitions=1)
    feeder = Feeder(cluster)
    large = Stream("large", size, seed)
    others = [Stream(f"other-{number}", choose.randrange(1, size // 20), seed) for number in range(40)]
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": broker.bootstrap,
        "HEADRACE_KAFKA__PREFIX": prefix,
        "HEADRACE_STATE": str(folder / "state"),
        "HEADRACE_ASSEMBLER__SESSION_TIMEOUT": "6s",
    }
    tree = folder / "tree"
    copies = [
        Service(f"copy-{number}", folder, ["assemble", tree, "--sink", "main", "--metrics-port", "0"], environment)
        for number in range(3)
    ]
    for copy in copies:
        copy.start()
    partial = tree / ".headrace" / large.file.hex()
    highest = 0

    def pace(share: float) -> None:
        nonlocal highest
        highest = max(highest, *(memory(copy) for copy in copies))
        if share * (kills + 1) > sum(copy.kills for copy in copies) + 1:
            victim = wait_until(lambda: writer(copies, partial), within=60)
            victim.kill()
            # Its partial file is taken away as well: whoever goes on must not need it.
            partial.unlink()
            victim.start()

    try:
        began = time.monotonic()
        interleave(feeder, large, others, 20, pace)
        expected = {stream.file for stream in (large, *others)}

        def all_delivered() -> bool:
            nonlocal highest
            for copy in copies:
                copy.revive()
            highest = max(highest, *(memory(copy) for copy in copies))
            done = {ack.file for ack in receipts_on_log(cluster) if ack.covers[0].outcome == "delivered"}
            assert done >= expected, f"{len(expected - done)} files are not delivered"
            return True

        wait_until(all_delivered, within=240, every=0.5)
        for copy in copies:
            copy.stop()
    finally:
        for copy in copies:
            if copy.running:
                copy.kill()
    for stream in (large, *others):
        assert rebuilt(tree / os.fsdecode(stream.path)) == stream.digest, f"seed {seed}: {stream.path!r} differs"
    assert not list((tree / ".headrace").iterdir())
    assert books_wrong(cluster) == []
    assert highest < MOST_MEMORY, f"seed {seed}: {highest / 1e6:.0f} MB of memory"
    say(
        f"seed {seed}: {sum(copy.kills for copy in copies)} kills, {size / 1e9:.1f} GB beside {len(others)} files,"
        f" {time.monotonic() - began:.0f} s, at most {highest / 1e6:.0f} MB of memory a copy"
    )


def writer(copies: list[Service], partial: Path) -> Service | None:
    """The copy that has the partial file open."""
    for copy in copies:
        process = copy._process
        try:
            if process is not None and any(
                each.path == str(partial) for each in psutil.Process(process.pid).open_files()
            ):
                return copy
        except psutil.Error:
            continue
    return None


def memory(copy: Service) -> int:
    """Resident bytes of a copy, 0 if it is gone."""
    process = copy._process
    try:
        return int(psutil.Process(process.pid).memory_info().rss) if process is not None else 0
    except psutil.Error:
        return 0


def test_a_file_that_trickles_beside_many_survives_the_death_of_copies(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    run(broker, prefix, tmp_path, say, 100 * MEBIBYTE, kills=3)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_two_gigabytes_that_trickle_survive_the_death_of_copies(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    run(broker, prefix, tmp_path, say, 2048 * MEBIBYTE, kills=10)
