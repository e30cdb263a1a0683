"""Later nights of a state, copies of the services, and memory with millions of known students.

- An unchanged night: rows a second through change detection, with no request that writes; wanted: 60,000.
- A night with 1 % changed: exactly those are sent; wanted: five times as fast as the plain program, which sends all.
- Two copies of `students`, and two of `csv_fanout` with two files: what they bring on this machine.
- Memory of `students` with 1, 3 and 6.4 million known; wanted: under 400 MB with the first, under 1 GB with the last.

python -m tests.bench.student_nights [nights|copies|memory] [ROWS] [PAIRS]; all three, 300,000 and 3 by default.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from pathlib import Path

from headrace.broker import EmbeddedBroker
from headrace_art.students.changes import Known
from headrace_art.topics import STATE_STUDENTS
from tests.bench.art_night import MEGABYTE, Art, Plant, art, night, plain, spread
from tests.bench.common import bench_broker, conditions
from tests.support.feeding import FedFile, Feeder

DISTRICTS, SCHOOLS = 900, 9_900
WANTED_UNCHANGED, WANTED_CHANGED = 60_000, 5.0
KNOWN = {1_000_000: 400, 3_000_000: None, 6_400_000: 1_000}
"""Wanted megabytes by known students."""
_numbers = itertools.count(1)


def nights(broker: EmbeddedBroker, folder: Path, rows: int, pairs: int) -> bool:
    """The first night is loaded, then others follow it, and the plain program sends the changed one whole."""
    first = night(folder, "first", rows=rows, districts=DISTRICTS, schools=SCHOOLS)
    changed = night(folder, "changed", rows=rows, districts=DISTRICTS, schools=SCHOOLS, changed=0.01)
    rates: list[float] = []
    processor: list[float] = []
    ratios: list[float] = []
    for pair in range(pairs):
        with art(folder) as served:
            plant = _plant(broker, folder, served)
            plant.start("csv_fanout", "entities", "students")
            _, file = plant.feed_night(first, "one")
            plant.wait("students", file, rows)
            plant.stop_one("students-1")
            again = plant.feed(first.students, "art_students", "two", "one")
            plant.wait("csv_fanout", again, rows)
            writes = served.writes()
            plant.start("students")
            with plant.spending() as spent:
                outcomes = plant.wait("students", again, rows)
            if outcomes != {"unchanged": rows} or served.writes() != writes:
                raise RuntimeError(f"{outcomes}, {served.writes() - writes} requests that write")
            rates.append(rows / spent.seconds)
            processor.append(rows / spent.processor["students-1"])
            submitted = served.counters()["students"]["submitted"]
            with plant.spending() as late:
                _, third = plant.feed_night(changed, "three")
                plant.wait("students", third, rows)
            sent = served.counters()["students"]["submitted"] - submitted
            outcomes = plant.by_outcome("students", third)
            plant.stop()
        with art(folder) as served:
            whole = sum(plain(served, changed).values())
        ratios.append(whole / late.seconds)
        print(f"  pair {pair + 1}: unchanged {spent}\n    1 % changed {late}; {sent:,.0f} sent, {outcomes}", flush=True)
    reached = statistics.median(rates) >= WANTED_UNCHANGED
    print(f"\nunchanged night, {rows:,} students on the log: {spread(rates)} rows a second,")
    print(f"  {spread(processor)} of processor time; wanted {WANTED_UNCHANGED:,}: {_verdict(reached)}")
    fast = statistics.median(ratios) >= WANTED_CHANGED
    print(f"1 % changed, schools and all: {spread(ratios)} times as fast as the plain full send;", end=" ")
    print(f"wanted {WANTED_CHANGED:g}: {_verdict(fast)}", flush=True)
    return reached and fast


def copies(broker: EmbeddedBroker, folder: Path, rows: int, pairs: int) -> None:
    """One copy and two, from what is on the log."""
    files = night(folder, "copies", rows=rows, districts=DISTRICTS, schools=SCHOOLS)
    students: dict[int, list[float]] = {1: [], 2: []}
    fan_outs: dict[int, list[float]] = {1: [], 2: []}
    for _, count in itertools.product(range(pairs), (1, 2)):
        with art(folder) as served:
            plant = _plant(broker, folder, served)
            plant.start("csv_fanout", "entities")
            schools = plant.feed(files.schools, "art_schools", "schools", "one")
            plant.wait("entities", schools, files.school_rows)
            plant.stop_one("csv_fanout-1")
            plant.start(*["csv_fanout"] * count)
            with plant.spending() as fanned:
                # Of names that stand in different partitions, so that each copy has one.
                both = [plant.feed(files.students, "art_students", f"students-{name}", "one") for name in _apart(plant)]
                for file in both:
                    plant.wait("csv_fanout", file, rows)
            fan_outs[count].append(2 * rows / fanned.seconds)
            plant.start(*["students"] * count)
            with plant.spending() as spent:
                for file in both:
                    plant.wait("students", file, rows)
            students[count].append(2 * rows / spent.seconds)
            plant.stop()
    print(f"\ncopies, {2 * rows:,} rows in two files, on {os.cpu_count()} cores that they share with Kafka and ART:")
    for what, found in (("csv_fanout", fan_outs), ("students, the second file unchanged", students)):
        ratio = statistics.median(found[2]) / statistics.median(found[1])
        print(f"  {what}: one {spread(found[1])}, two {spread(found[2])} rows a second, {ratio:.2f} times", flush=True)


def _apart(plant: Plant) -> tuple[str, str]:
    feeder = Feeder(plant.cluster)
    names = [str(number) for number in range(20)]
    places = {name: feeder.partition(FedFile(f"students-{name}".encode(), b"")) for name in names}
    # The first copy gets the first half of the partitions.
    half = feeder.partitions // 2
    return next(n for n in names if places[n] < half), next(n for n in names if places[n] >= half)


def memory(broker: EmbeddedBroker, folder: Path) -> bool:
    """Resident memory while the state is read, and while 100,000 students go through of whom none is known."""
    files = night(folder, "memory", rows=100_000, districts=10, schools=100)
    good = True
    for known, wanted in KNOWN.items():
        with art(folder) as served:
            plant = _plant(broker, folder, served)
            plant.start("csv_fanout", "entities")
            _, file = plant.feed_night(files, "one")
            plant.wait("csv_fanout", file, files.rows)
            took = _know(plant, known)
            plant.start("students")
            process = plant.process(plant.services["students-1"])
            peak = 0.0
            began = time.perf_counter()

            while sum(plant.poll("students", file).values()) < files.rows:
                peak = max(peak, process.memory_info().rss / MEGABYTE)
            seconds = time.perf_counter() - began
            others = {
                name: plant.process(service).memory_info().rss / MEGABYTE for name, service in plant.services.items()
            }
            plant.stop()
        reached = wanted is None or peak < wanted
        good &= reached
        limit = "" if wanted is None else f"; wanted under {wanted}: {_verdict(reached)}"
        print(f"\n{known:,} known ({took:.0f} s to put on the log), read and 100,000 new ones sent in {seconds:.0f} s:")
        print(f"  students {peak:.0f} MB at its peak{limit}; at the end", end=" ")
        print(", ".join(f"{name} {size:.0f} MB" for name, size in others.items()), flush=True)
    return good


def _know(plant: Plant, count: int) -> float:
    """Put so many confirmed students on the state's topic; its seconds."""
    began = time.monotonic()
    producer = plant.cluster.producer({"queue.buffering.max.messages": 1_000_000, "linger.ms": 50})
    topic = plant.cluster.topic_name(STATE_STUDENTS)
    value = Known(bytes(range(16)), b"mark" * 2, 1, 2).raw
    partitions = plant.cluster.partitions(STATE_STUDENTS)
    for number in range(count):
        while True:
            try:
                producer.produce(topic, value, b"CA~%010d" % (5_000_000_000 + number), number % partitions)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    return time.monotonic() - began


def _plant(broker: EmbeddedBroker, folder: Path, served: Art) -> Plant:
    return Plant(broker, folder, f"n{next(_numbers)}.", served)


def _verdict(reached: bool) -> str:
    return "reached" if reached else "NOT reached"


def main() -> int:
    """Measure, and tell whether what was wanted is reached."""
    words = sys.argv[1:]
    chosen = [word for word in words if not word.isdecimal()] or ["nights", "copies", "memory"]
    given = [int(word) for word in words if word.isdecimal()]
    rows, pairs = [*given, *(300_000, 3)[len(given) :]]
    conditions()
    print("the broker: with the JVM's quick compiler")
    good = True
    with bench_broker(fast_start=True) as (broker, folder):
        if "nights" in chosen:
            good &= nights(broker, folder, rows, pairs)
        if "copies" in chosen:
            copies(broker, folder, rows // 3, pairs)
        if "memory" in chosen:
            good &= memory(broker, folder)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
