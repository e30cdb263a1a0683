"""The fan-out: rows a second of one process, and its memory with a large file. Needs nothing but this machine.

A dump of students (29 columns that are published, 13 that are not, about 200 bytes a row) lies on the chunks topic; the
service reads, verifies, surveys and publishes it. Rows a second of processor time say what one core does, whatever else
the machine is busy with; wanted: 30,000. Peak memory is that of the process; wanted: under 300 MB.

Run: python -m tests.bench.fan_out [megabytes], 200 by default; 2000 for the memory that the documentation states.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from headrace.config import KafkaSettings
from headrace.datasets.catalogue import Datasets
from headrace.families import catalogue
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from tests.bench.common import bench_broker, conditions
from tests.support.processes import HEADRACE, Service
from tests.support.running import receipts_on_log
from tests.support.waiting import wait_until

WANTED_ROWS = 30_000
WANTED_MEMORY = 300_000_000
MEGABYTE = 1_000_000
UNUSED = 13


def rows(count: int) -> Iterator[bytes]:
    """Lines of a dump of students: every tenth has a letter that is not ASCII."""
    names = [column.name for column in Datasets()["art_students"].declaration.columns]
    yield ("^".join([*names, *(f"Unused{number}" for number in range(UNUSED))]) + "\n").encode()
    fixed = {
        "LastOrSurname": "Fernandez-Oliveira", "MiddleName": "Alexandra", "Sex": "Female", "DateofBirth": "2009-11-30",
        "ResponsibleDistrictIdentifier": "9900123", "ResponsibleSchoolIdentifier": "0456789", "LanguageCode": "SPA",
        "GradeLevelWhenAssessed": "07", "StateAbbreviation": "CA", "FirstEntryDateIntoUSSchool": "2014-08-15",
    }  # fmt: skip
    for number in range(count):
        own = {
            "SSID": str(1_000_000_000 + number), "SmarterStudentID": f"S{number:09}",
            "FirstName": "Mar\xeda" if number % 10 == 0 else "Maria",
        }  # fmt: skip
        values = [own.get(name) or fixed.get(name) or "No" for name in names]
        yield ("^".join([*values, *(["somewhere"] * 3), *([""] * (UNUSED - 3))]) + "\n").encode("latin-1")


def main(megabytes: int) -> int:
    """Measure, and tell whether what was wanted is reached."""
    conditions()
    with bench_broker() as (broker, folder):
        cluster = Cluster(KafkaSettings(bootstrap=broker.bootstrap))
        create_missing(cluster, catalogue())
        file = folder / "students.csv"
        count = megabytes * MEGABYTE // 200
        with file.open("wb") as out:
            out.writelines(rows(count))
        environment = {"HEADRACE_KAFKA__BOOTSTRAP": broker.bootstrap, "HEADRACE_STATE": str(folder / "state")}
        sender = Service("send", folder, ["upload", file, "--dataset", "art_students"], environment)
        sender.start()
        wait_until(lambda: not sender.running, within=600, every=0.2)
        service = Service("fan-out", folder, ["fan-out"], environment)
        service.start()
        process = _process(folder)
        peak = cpu = began = ended = 0.0

        def done() -> bool:
            nonlocal peak, cpu, began, ended
            peak = max(peak, process.memory_info().rss)
            times = process.cpu_times()
            cpu, ended = times.user + times.system, time.perf_counter()
            began = began or time.perf_counter()
            return service.said("file published") or service.said("file refused")

        wait_until(done, within=3600, every=0.05)
        service.stop()
        (ack,) = receipts_on_log(cluster)
        delivered = sum(covers.count for covers in ack.covers if covers.outcome == "delivered")
    rate, wall = count / cpu, count / (ended - began)
    print(f"\nfan-out of {count:,} rows, {megabytes} MB; {delivered:,} delivered")
    print(f"  {rate:10,.0f} rows a second of processor time, {1e6 * cpu / count:.1f} us each (wanted {WANTED_ROWS:,})")
    print(f"  {wall:10,.0f} rows a second of the clock, start of the process included")
    print(f"  {peak / MEGABYTE:10,.0f} MB at its peak (wanted under {WANTED_MEMORY // MEGABYTE})")
    return 0 if delivered == count and rate >= WANTED_ROWS and peak < WANTED_MEMORY else 1


def _process(folder: Path) -> psutil.Process:
    """The service's process: our only child that is a Headrace."""

    def found() -> list[psutil.Process]:
        children = psutil.Process(os.getpid()).children()
        return [child for child in children if "fan-out" in child.cmdline() and str(HEADRACE) in child.cmdline()]

    return wait_until(found, within=10)[0]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
