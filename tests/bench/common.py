"""What all benchmarks share: alternating pairs, medians with spread, and the conditions they were measured under."""

from __future__ import annotations

import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka

from headrace.broker import EmbeddedBroker, free_port
from headrace.cli.runtime import collect_rarely
from headrace.config import LogSettings
from headrace.observe.log import configure

PAIRS = 5


@dataclass(frozen=True)
class Outcome:
    """One comparison: seconds of both sides, pair by pair."""

    name: str
    ours: list[float]
    plain: list[float]
    wanted: float
    amount: float
    unit: str

    @property
    def ratios(self) -> list[float]:
        """Our rate as a share of the plain one, pair by pair."""
        return [plain / ours for ours, plain in zip(self.ours, self.plain, strict=True)]

    def show(self) -> bool:
        """Print the figures; whether the median ratio is what was wanted."""
        ratio = statistics.median(self.ratios)
        reached = ratio >= self.wanted
        print(f"\n{self.name}")
        for side, seconds in (("headrace", self.ours), ("plain", self.plain)):
            rates = sorted(self.amount / second for second in seconds)
            print(
                f"  {side:9} {statistics.median(rates):10.1f} {self.unit}"
                f"   ({rates[0]:.1f} to {rates[-1]:.1f}; {statistics.median(seconds):.2f} s)"
            )
        verdict = "reached" if reached else "NOT reached"
        print(
            f"  ratio     {ratio:10.2f}   ({min(self.ratios):.2f} to {max(self.ratios):.2f}),"
            f" wanted {self.wanted:.2f}: {verdict}",
            flush=True,
        )
        return reached


def compare(
    name: str,
    ours: Callable[[int], float],
    plain: Callable[[int], float],
    *,
    wanted: float,
    amount: float,
    unit: str,
    pairs: int = PAIRS,
) -> Outcome:
    """Run both sides in turn, after one warm-up of each.

    Before each run, what was written before it is on disk: who syncs would pay for the bytes of who does not.

    Parameters:
        ours, plain: do the work once (the argument counts the runs, 0 is the warm-up) and return its seconds.
        wanted: our rate as a share of the plain one that is to be reached.
        amount: of work in one run, in the unit per second that is printed.
    """

    def quietly(side: Callable[[int], float], run: int) -> float:
        os.sync()
        return side(run)

    quietly(ours, 0)
    quietly(plain, 0)
    seconds: list[tuple[float, float]] = []
    for run in range(1, pairs + 1):
        # Who goes first alternates, so that a drift of the machine hits both sides.
        if run % 2:
            mine = quietly(ours, run)
            other = quietly(plain, run)
        else:
            other = quietly(plain, run)
            mine = quietly(ours, run)
        seconds.append((mine, other))
    return Outcome(name, [pair[0] for pair in seconds], [pair[1] for pair in seconds], wanted, amount, unit)


def conditions() -> None:
    """Print what the figures depend on."""
    # As services run: unconfigured, the log has every debug line, and garbage is looked for all the time.
    configure(LogSettings())
    collect_rarely()
    load = os.getloadavg()[0]
    print(
        f"conditions: {os.cpu_count()} cores, load {load:.1f} at the start, Linux {platform.release()},"
        f" Python {platform.python_version()}, confluent-kafka {confluent_kafka.version()[0]},"
        f" librdkafka {confluent_kafka.libversion()[0]}, embedded Apache Kafka, all on one machine;"
        f" {PAIRS} alternating pairs after a warm-up, medians (least to most)"
    )


@contextmanager
def bench_broker(*, fast_start: bool = False) -> Iterator[tuple[EmbeddedBroker, Path]]:
    """A broker of its own, and a folder; both are gone afterwards.

    Parameters:
        fast_start: with the JVM's quick compiler instead of its full one, which takes 10 s of a processor before the
            broker is as fast: for short runs, in which only one side uses Kafka.
    """
    folder = Path(tempfile.mkdtemp(prefix="headrace-bench-"))
    broker = EmbeddedBroker(folder / "broker", free_port(), fast_start=fast_start)
    try:
        broker.start()
        yield broker, folder
    finally:
        broker.kill()
        shutil.rmtree(folder, ignore_errors=True)
