"""Services that bring nights to ART, as processes that a test kills, puts to sleep and starts again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from headrace.broker import EmbeddedBroker
from headrace.families import catalogue
from headrace.kafka.admin import create_missing
from tests.support import art_oracle
from tests.support.art import PASSWORD, USER
from tests.support.art_loading import Dump, Loading, ServedArt, as_csv, rows_of
from tests.support.chaos import new_seed
from tests.support.feeding import FedFile
from tests.support.processes import Service
from tests.support.waiting import wait_until


class Crew:
    """Everything of one run.

    Parameters:
        say: prints a line where a person sees it.
        settings: more environment of the services.
    """

    def __init__(
        self,
        broker: EmbeddedBroker,
        prefix: str,
        folder: Path,
        art: ServedArt,
        say: Callable[[str], None],
        **settings: str,
    ) -> None:
        self.seed = new_seed()
        self.random = Random(self.seed)
        self.loading = Loading(broker.bootstrap, prefix, folder, art)
        create_missing(self.loading.cluster, catalogue())
        self.art, self.folder = art, folder
        self._prefix, self._bootstrap, self._say = prefix, broker.bootstrap, say
        self.services: dict[str, Service] = {}
        self.nights: list[tuple[FedFile, FedFile]] = []
        self._environment = {
            "HEADRACE_KAFKA__BOOTSTRAP": broker.bootstrap,
            "HEADRACE_KAFKA__PREFIX": prefix,
            "HEADRACE_STATE": str(folder / "state"),
            "HEADRACE_ART__URL": art.served.rest_url,
            "HEADRACE_ART__TOKEN_URL": art.served.token_url,
            "HEADRACE_ART__USERNAME": USER,
            "HEADRACE_ART__PASSWORD": PASSWORD,
            "HEADRACE_ART__CLIENT_ID": "headrace",
            "HEADRACE_ART__CLIENT_SECRET": "sandbox",
            "HEADRACE_ART__BATCH_STUDENTS": "100",
            "HEADRACE_STUDENTS__LINGER": "200ms",
            "HEADRACE_CSV_FANOUT__ALLOW_SHRINK": "true",
            **{
                f"HEADRACE_{service}__{name}": value
                for service in ("STUDENTS", "ENTITIES", "CSV_FANOUT")
                for name, value in (("SESSION_TIMEOUT", "6s"), ("METRICS_PORT", "0"), ("SINK", "test"))
            },
            **settings,
        }

    def service(self, stage: str, number: int = 1) -> Service:
        """One copy of a stage, not started."""
        name = f"{stage}-{number}"
        if name not in self.services:
            self.services[name] = Service(name, self.folder, ["run", stage], self._environment)
        return self.services[name]

    def night(
        self, rows: int = 100, *, schools: int = 10, like: int | None = None, wait: bool = True, **plan: Any
    ) -> None:
        """Put the dumps of one more night onto the log, once those before are records.

        Parameters:
            like: the state of that night, instead of another one.
            wait: until all nights before are done, as nights of one state are days apart.
        """
        number = len(self.nights)
        seed = number if like is None else like
        values = {"rows": rows, "districts": 2, "schools": schools, "seed": seed, **plan}
        dump = Dump.make(self.folder / f"night-{number}", **values)
        if self.nights:
            wait_until(lambda: self._fanned_out(self.nights[-1]), within=60)
        if like is not None and wait:
            wait_until(self.done, within=90)
        rows_of_state = [row for _, row in rows_of(dump.students)]
        for row in rows_of_state:
            row["SSID"] = f"{seed:03}{row['SSID'][3:]}"
        dump.students = as_csv(rows_of_state)
        fed_schools, fed_students = self.loading.feed(dump, f"{number:04}")
        assert fed_schools is not None
        self.nights.append((fed_schools, fed_students))

    def _fanned_out(self, files: tuple[FedFile, FedFile]) -> bool:
        self.keep()
        group = f"{self._prefix}csv_fanout.test"
        receipts = art_oracle.said(self._bootstrap, self._prefix, group)
        return all(file.item in receipts for file in files)

    def keep(self) -> None:
        """Start again what ended by itself, as a supervisor would."""
        for service in self.services.values():
            service.revive()

    def done(self) -> bool:
        """Whether every line of every night has its outcome."""
        self.keep()
        said = self.said()
        for files, receipts, stage in (
            ([first for first, _ in self.nights], said[1], "entities"),
            ([second for _, second in self.nights], said[0], "students"),
        ):
            for file in files:
                lines = len(file.content.splitlines()) - 1
                found = len(set().union(*(each for _, each in receipts.get(file.item, ()))))
                assert found == lines, f"{found} of {lines} lines of {stage} {file.path.decode()}"
        return True

    def said(self) -> tuple[art_oracle.Said, art_oracle.Said]:
        """What students and entities say."""
        students, entities = (
            art_oracle.said(self._bootstrap, self._prefix, f"{self._prefix}{stage}.test")
            for stage in ("students", "entities")
        )
        return students, entities

    def finish(self, within: float = 90.0) -> None:
        """Wait for the last line, stop everything, and let the oracle judge."""
        wait_until(self.done, within=within, every=0.3)
        for service in self.services.values():
            service.stop()
        problems = self.judge()
        assert not problems, f"seed {self.seed}: " + "\n".join(problems)
        kills = sum(service.kills for service in self.services.values())
        counted = self.art.counted
        self._say(
            f"seed {self.seed}: {kills} kills, {sum(s.revivals for s in self.services.values())} revivals,"
            f" {len(self.nights)} nights, {counted('students', 'saved'):g} students saved in"
            f" {counted('students', 'submitted'):g} sent, at most {counted('backlog_highest'):g} at ART"
        )

    def judge(self) -> list[str]:
        """What the oracle finds wrong."""
        truth = art_oracle.dumps(self._bootstrap, self._prefix, self.folder)
        return art_oracle.wrong(truth, self.at_art(), *self.said())

    def at_art(self) -> art_oracle.Art:
        """ART's tables."""
        students = self.art.table("students")
        again = self.art.served.world.students.saved_again
        saves = {each["ssid"]: 1 + again["CA", each["ssid"]] for each in students}
        return art_oracle.Art(students, self.art.table("institutions"), saves)

    def end(self) -> None:
        """Leave nothing running."""
        for service in self.services.values():
            if service.running:
                service.kill()

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"=== {name}\n{service.tail()}" for name, service in self.services.items())
