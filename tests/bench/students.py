"""A night of a state, from the files to ART, against the plain program of `art_plain`.

python -m tests.bench.students [ROWS] [PAIRS] [PAIRS at 50 ms]; 300,000, 5 and 1 by default, with 3 districts and 33
schools to a thousand students. At 50 ms a request the plain program takes ten minutes for the schools alone.
"""

from __future__ import annotations

import itertools
import statistics
import sys
from pathlib import Path

from headrace.broker import EmbeddedBroker
from tests.bench.art_night import Files, Plant, Spent, art, night, plain, spread
from tests.bench.common import bench_broker, conditions

DISTRICTS, SCHOOLS = 0.003, 0.033
"""For each student."""
_numbers = itertools.count(1)


class Failed(Exception):
    """A run did not do what it should."""


def whole(broker: EmbeddedBroker, folder: Path, files: Files, latency: float) -> tuple[Spent, float]:
    """Both files at once, all services; what was spent, and the largest backlog at ART."""
    with art(folder, latency_ms=latency) as served:
        plant = Plant(broker, folder, f"b{next(_numbers)}.", served)
        plant.start("csv_fanout", "entities", "students")
        with plant.spending() as spent:
            _, students = plant.feed_night(files, "one")
            outcomes = plant.wait("students", students, files.rows)
        counters = served.counters()
        plant.stop()
    if outcomes != {"delivered": files.rows} or counters["backlog"]:
        raise Failed(f"{outcomes}, {counters['backlog']} at ART")
    return spent, counters["backlog_highest"]


def phases(broker: EmbeddedBroker, folder: Path, files: Files, latency: float) -> tuple[Spent, Spent]:
    """First the schools, then the students."""
    with art(folder, latency_ms=latency) as served:
        plant = Plant(broker, folder, f"b{next(_numbers)}.", served)
        plant.start("csv_fanout", "entities", "students")
        with plant.spending() as entities:
            schools = plant.feed(files.schools, "art_schools", "schools", "one")
            plant.wait("entities", schools, files.school_rows)
        with plant.spending() as students:
            file = plant.feed(files.students, "art_students", "students", "one")
            plant.wait("students", file, files.rows)
        plant.stop()
    return entities, students


def compare(broker: EmbeddedBroker, folder: Path, files: Files, latency: float, pairs: int) -> bool:
    """Alternating runs of both programs; whether what is wanted is reached."""
    ours: list[float] = []
    theirs: list[float] = []
    ratios: dict[str, list[float]] = {"whole": [], "entities": [], "students": []}
    backlog = 0.0
    spent = entities = students = Spent(0.0)
    plains: list[dict[str, float]] = []

    def mine() -> None:
        nonlocal spent, entities, students, backlog
        spent, most = whole(broker, folder, files, latency)
        backlog = max(backlog, most)
        entities, students = phases(broker, folder, files, latency)

    def other() -> None:
        with art(folder, latency_ms=latency) as served:
            plains.append(plain(served, files))

    for pair in range(pairs):
        for side in (mine, other) if pair % 2 else (other, mine):
            side()
        seconds = plains[-1]
        ours.append(spent.seconds)
        theirs.append(sum(seconds.values()))
        ratios["whole"].append(spent.seconds / theirs[-1])
        ratios["entities"].append(seconds["entities"] / entities.seconds)
        ratios["students"].append(seconds["students"] / students.seconds)
    print(
        f"\nfirst night, {files.rows:,} students, {files.school_rows:,} rows of schools, {latency:g} ms, {pairs} pairs"
    )
    print(f"  headrace, both files     {spread(ours)} s; the last one {spent}")
    print(f"  plain, one by one        {spread(theirs)} s; the last one {plains[-1]}")
    print(f"  headrace, schools        {entities}")
    print(f"  headrace, students       {students}")
    print(f"  most at ART              {backlog:,.0f} students, the ceiling is 20,000")
    wanted = {"whole": 0.15 if latency else 0.7, "entities": 12.0 if latency else 3.0, "students": 1.0}
    good = backlog <= 20_000
    for name, found in ratios.items():
        median = statistics.median(found)
        reached = median <= wanted[name] if name == "whole" else median >= wanted[name]
        sense = "at most" if name == "whole" else "at least"
        said = "share of the plain time" if name == "whole" else "times as fast"
        if latency and name == "students":
            print(f"  {name:9} {spread(found)} {said}")
            continue
        good &= reached
        verdict = "reached" if reached else "NOT reached"
        print(f"  {name:9} {spread(found)} {said}; wanted {sense} {wanted[name]:g}: {verdict}", flush=True)
    return good


def main() -> int:
    """Measure, and tell whether what was wanted is reached."""
    rows, pairs, slow = (int(word) for word in (*sys.argv[1:], *("300000", "5", "1")[len(sys.argv) - 1 :]))
    conditions()
    print("the broker: with the JVM's quick compiler")
    with bench_broker(fast_start=True) as (broker, folder):
        files = night(folder, "one", rows=rows, districts=int(rows * DISTRICTS), schools=int(rows * SCHOOLS))
        # Neither broker nor file system is to learn its trade in the first pair.
        whole(broker, folder, night(folder, "warm-up", rows=20_000, districts=20, schools=200), 0)
        good = not pairs or compare(broker, folder, files, 0, pairs)
        if slow:
            good &= compare(broker, folder, files, 50, slow)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
