"""`headrace verify` over a million files: one of them under 1 s, all under 60 s in under 500 MB.

python -m tests.bench.verify [FILES]
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

from headrace.config import KafkaSettings
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.keys import file_id
from headrace.topics import SPINE
from tests.bench.common import bench_broker, conditions
from tests.bench.synthetic import SOURCE, fill, path_of

FILES = 1_000_000
ONE_SECONDS, ALL_SECONDS, ALL_MEGABYTES = 1.0, 60.0, 500.0
RUNS = 5


@dataclass(frozen=True)
class Run:
    """One command line: seconds from start to end, and its largest resident memory in MB."""

    seconds: float
    megabytes: float
    last_line: str


def headrace(cluster: Cluster, *arguments: str) -> Run:
    """Run the command line as a user would, in a process of its own."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "headrace", "--bootstrap", cluster.bootstrap, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    lines = process.stdout.read().splitlines()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"headrace {' '.join(arguments)} ended with {process.returncode}: {lines[-5:]}")
    return Run(seconds, used.ru_maxrss / 1024, lines[-1] if lines else "")


def show(name: str, runs: list[Run], seconds: float, megabytes: float | None = None) -> bool:
    """Print the figures; whether they are within the limits."""
    times = sorted(run.seconds for run in runs)
    most = max(run.megabytes for run in runs)
    reached = statistics.median(times) < seconds and (megabytes is None or most < megabytes)
    limit = f"under {seconds:g} s" + ("" if megabytes is None else f" in under {megabytes:g} MB")
    print(
        f"  {name:28} {statistics.median(times):6.2f} s ({times[0]:.2f} to {times[-1]:.2f}), {most:.0f} MB;"
        f" wanted {limit}: {'reached' if reached else 'NOT reached'}",
        flush=True,
    )
    return reached


def main() -> int:
    """Fill a log, verify, compare with what is wanted."""
    files = int(sys.argv[1]) if len(sys.argv) > 1 else FILES
    with bench_broker() as (broker, _):
        cluster = Cluster(KafkaSettings(bootstrap=broker.bootstrap))
        create_missing(cluster, SPINE)
        took = fill(cluster, files, ("assembler", "archiver"))
        conditions()
        print(f"{files:,} files with two receipts each, 6 partitions; put on the log in {took:.0f} s")
        path = path_of(files // 3)
        name = file_id(SOURCE, path, 7, 10_000, 1_700_000_000_000_000_000, 0).hex()
        one = (("a file by path and source", (os.fsdecode(path), "--source", SOURCE)), ("a file by the end of its path",
               (os.fsdecode(path[-14:]),)), ("a file by its id", (name,)))  # fmt: skip
        good = [
            show(title, [headrace(cluster, "verify", *words) for _ in range(RUNS)], ONE_SECONDS) for title, words in one
        ]
        good.append(show("all", [headrace(cluster, "verify")], ALL_SECONDS, ALL_MEGABYTES))
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
