"""How long a small file takes from a folder to its destination, and how soon a service handles its first message.

Run it: `python -m tests.bench.latency`. The figures are times, not ratios: a file of 10 kB is dropped into a folder
that has been idle for a minute, 50 times, and must be at its destination within 1 s after its settle time, with polling
within the scan interval and 1 s. A service handles its first message within 1.5 s of its start.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from headrace.broker import EmbeddedBroker
from tests.bench.common import bench_broker, conditions
from tests.support.feeding import FedFile, Feeder
from tests.support.running import new_cluster

SETTLE = 1.0
POLL = 2.0
IDLE = 60.0
DROPS, POLLED_DROPS, STARTS = 50, 20, 20
FILE_BYTES = 10_000


@contextmanager
def services(
    broker: EmbeddedBroker, folder: Path, prefix: str, commands: Sequence[Sequence[str]]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    environment = os.environ | {"HEADRACE_KAFKA__PREFIX": prefix, "HEADRACE_STATE": str(folder / "state")}
    with (folder / "services.log").open("ab") as log:
        running = [
            subprocess.Popen(
                [sys.executable, "-m", "headrace", "--bootstrap", broker.bootstrap, *command],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
            for command in commands
        ]  # fmt: skip
        try:
            yield running
        finally:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(30)


def arrival(place: Path, within: float = 60.0) -> float:
    """The time at which a file is there."""
    deadline = time.monotonic() + within
    while not place.exists():
        if time.monotonic() > deadline:
            raise SystemExit(f"{place} did not arrive within {within:.0f} s")
        time.sleep(0.002)
    return time.monotonic()


def drops(source: Path, target: Path, count: int, name: str) -> list[float]:
    """Seconds from the end of writing to the arrival, file by file."""
    seconds = []
    for number in range(count):
        place = source / f"{name}-{number}"
        place.write_bytes(os.urandom(FILE_BYTES))
        written = time.monotonic()
        seconds.append(arrival(target / place.name) - written)
    return seconds


def show(what: str, seconds: Sequence[float], limit: float) -> bool:
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    reached = p99 <= limit
    print(
        f"\n{what}\n  median {statistics.median(ordered):.3f} s, p99 {p99:.3f} s of {len(ordered)},"
        f" wanted p99 {limit:.2f} s: {'reached' if reached else 'NOT reached'}",
        flush=True,
    )
    return reached


def dropped(broker: EmbeddedBroker, folder: Path, *, polling: bool) -> bool:
    name = "polled" if polling else "native"
    source, target = folder / f"{name}-source", folder / f"{name}-target"
    source.mkdir()
    new_cluster(broker.bootstrap, f"{name}.")
    watch = ["watch", str(source), "--source", name, "--settle", f"{SETTLE}s"]
    watch += ["--polling", "--poll-every", f"{POLL}s"] if polling else []
    with services(broker, folder, f"{name}.", [watch, ["assemble", str(target), "--sink", name]]):
        drops(source, target, 1, "first")
        time.sleep(1.0 if polling else IDLE)
        seconds = drops(source, target, POLLED_DROPS if polling else DROPS, "drop")
    if polling:
        return show("10 kB dropped, polling: to the destination, settle included", seconds, SETTLE + POLL + 1.0)
    after = [second - SETTLE for second in seconds]
    return show("10 kB dropped into a folder idle for a minute: to the destination, after its settle time", after, 1.0)


def first_message(broker: EmbeddedBroker, folder: Path) -> bool:
    cluster = new_cluster(broker.bootstrap, "start.")
    feeder = Feeder(cluster)
    seconds = []
    for number in range(STARTS):
        file = FedFile(f"file-{number}".encode(), os.urandom(FILE_BYTES))
        feeder.send(file, file.whole())
        feeder.flush()
        began = time.monotonic()
        target = folder / "start-target"
        with services(broker, folder, "start.", [["assemble", str(target), "--sink", "start"]]):
            seconds.append(arrival(target / f"file-{number}") - began)
    return show("start of an assembler process to its first file at its destination", seconds, 1.5)


def main() -> int:
    conditions()
    with bench_broker() as (broker, folder):
        reached = [
            first_message(broker, folder),
            dropped(broker, folder, polling=False),
            dropped(broker, folder, polling=True),
        ]
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
