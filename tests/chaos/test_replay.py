"""A replay of a service over a gigabyte: what is there is not written, what is lost comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from headrace.broker import EmbeddedBroker
from headrace.sandbox.s3 import S3Server
from headrace_files.archiver.service import Archiver
from headrace_files.archiver.settings import ArchiverSettings
from headrace_files.assembler.service import Assembler
from headrace_files.assembler.settings import AssemblerSettings
from tests.support.chaos import KILOBYTE, MEGABYTE, new_seed
from tests.support.dead import as_json, headrace
from tests.support.feeding import FedFile, Feeder
from tests.support.oracle import files_below
from tests.support.running import new_cluster, receipts_on_log, running
from tests.support.s3_faults import faulty
from tests.support.verifying import books_wrong
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

CHUNK = 256 * 1024


def material(random: Random) -> list[FedFile]:
    """A gigabyte: a few large files, some of a few megabytes, many small ones, and new versions of some."""
    sizes = [200 * MEGABYTE] * 2 + [50 * MEGABYTE] * 6 + [3 * MEGABYTE] * 80
    sizes += [random.randrange(100 * KILOBYTE) for _ in range(1200)]
    files = [FedFile(f"folder {n % 20}/file-{n}".encode(), random.randbytes(size), chunk=CHUNK, ctime_ns=n + 1)
             for n, size in enumerate(sizes)]  # fmt: skip
    newer = [FedFile(file.path, random.randbytes(50 * KILOBYTE), chunk=CHUNK, ctime_ns=10_000_000 + n)
             for n, file in enumerate(random.sample(files, 50))]  # fmt: skip
    return files + newer


@pytest.mark.long
@pytest.mark.s3
@pytest.mark.timeout(900)
def test_a_replay_over_a_gigabyte_writes_only_what_is_lost(
    broker: EmbeddedBroker, s3: S3Server, bucket: str, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> None:
    seed = new_seed()
    random = Random(seed)
    cluster = new_cluster(broker.bootstrap, prefix)
    feeder = Feeder(cluster)
    files = material(random)
    size = sum(len(file.content) for file in files)
    for file in files:
        feeder.send(file, *([file.whole()] if len(file.content) <= CHUNK else file.frames()))
        feeder.announce(file)
    tree = tmp_path / "tree"

    def everything_is_there(groups: int) -> bool:
        found = len({(ack.group, ack.item) for ack in receipts_on_log(cluster)})
        assert found == groups * len(files), f"{found} receipts"
        return True

    with running(Assembler(AssemblerSettings(root=tree)), cluster):
        wait_until(lambda: everything_is_there(1), within=200, every=1.0)
    with faulty(s3.port) as proxy:
        place = {"endpoint": proxy.endpoint, "bucket": bucket, "access_key": s3.access_key, "secret_key": s3.secret_key}
        with running(Archiver(ArchiverSettings.model_validate({**place, "sink": "test"})), cluster):
            wait_until(lambda: everything_is_there(2), within=200, every=1.0)
        environment = {f"HEADRACE_ARCHIVER__{name.upper()}": value for name, value in place.items()} | {
            "HEADRACE_STATE": str(tmp_path / "state"),
            "HEADRACE_ASSEMBLER__ROOT": str(tree),
            "HEADRACE_ASSEMBLER__SINK": "test",
            "HEADRACE_ARCHIVER__SINK": "test",
        }

        def replay(service: str, *more: str | Path) -> tuple[dict, float]:
            began = time.monotonic()
            code, output = headrace(cluster, "replay", "--service", service, *more, "--json", environment=environment)
            assert code == 0, output
            return as_json(output), time.monotonic() - began

        def touched() -> dict[bytes, tuple[int, int, int]]:
            found = files_below(tree)
            return {path: (each.st_ino, each.st_mtime_ns, each.st_ctime_ns) for path, each in found.items()}

        before = touched()
        told, seconds_tree = replay("assembler")
        assert told["services"][0]["again"] == 0
        assert touched() == before
        proxy.requests.clear()
        told, seconds_bucket = replay("archiver")
        assert told["services"][0]["again"] == 0
        assert not proxy.writes()
        methods = {method for method, _ in proxy.requests}

        content = {path: (tree / os.fsdecode(path)).read_bytes() for path in before}
        lost = set(random.sample(sorted(before), 40))
        for path in lost:
            (tree / os.fsdecode(path)).unlink()
        told, seconds_lost = replay("assembler")
        assert told["services"][0]["outcomes"] == {"delivered": len(lost)}
        after = touched()
        assert {path for path in after if after[path] != before[path]} == lost
        assert {path: (tree / os.fsdecode(path)).read_bytes() for path in before} == content

        told, seconds_copy = replay("assembler", "--into", tmp_path / "copy")
        assert told["incomplete"] == 0
        assert {
            path: (tmp_path / "copy" / os.fsdecode(path)).read_bytes() for path in files_below(tmp_path / "copy")
        } == content
    assert books_wrong(cluster) == []
    say(
        f"seed {seed}: {len(files)} versions, {size / MEGABYTE:.0f} MB; intact tree {seconds_tree:.1f} s, 0 writes;"
        f" intact bucket {seconds_bucket:.1f} s, {methods} only; 40 lost files back in {seconds_lost:.1f} s;"
        f" everything into another folder {seconds_copy:.1f} s"
    )
