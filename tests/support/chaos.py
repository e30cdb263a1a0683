"""A small plant for chaos: a watched folder, trees, a bucket, the services between them, and the judgement at the end.

Every run has a seed, which it prints with its counts; `HEADRACE_CHAOS_SEED` repeats one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from random import Random
from typing import Any

from headrace.errors import TransientError
from headrace.jobs.assessment import Exit
from headrace.kafka.admin import describe
from headrace.kafka.clients import Cluster
from headrace.keys import partition_of
from headrace.proof.books import Account
from headrace.proof.report import verdict
from headrace.proof.verify import Outcome, Verification
from headrace.sandbox.s3 import S3Server
from headrace.topics import CHUNKS
from tests.support import books, oracle
from tests.support.ledgers import stopped_job
from tests.support.processes import HEADRACE, Service
from tests.support.waiting import wait_until

KILOBYTE = 1000
MEGABYTE = 1000 * KILOBYTE

SOURCE = "instrument"


def new_seed() -> int:
    """The seed of this run."""
    given = os.environ.get("HEADRACE_CHAOS_SEED")
    return int(given) if given else int.from_bytes(os.urandom(4), "big")


class Plant:
    """Everything of one run.

    Parameters:
        say: prints a line where a person sees it.
        s3, bucket: the object store, if the run has one.
        job: the id of the standing job that the source's files are sent under, if its books are to be judged, too.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        say: Callable[[str], None],
        *,
        s3: S3Server | None = None,
        bucket: str = "",
        job: str | None = None,
    ) -> None:
        self.seed = new_seed()
        self.random = Random(self.seed)
        self.cluster = cluster
        self.folder = folder
        self.source = folder / "source"
        self.source.mkdir(parents=True)
        self.services: dict[str, Service] = {}
        self.trees: dict[str, Path] = {}
        self.refused: set[bytes] = set()
        self.bytes_written = 0
        self.files_written = 0
        self.endpoint = s3.endpoint if s3 is not None else ""
        self._s3 = s3
        self._bucket = bucket
        self._job = job
        self._say = say
        self._groups: set[str] = set()

    # --- services ---

    @property
    def environment(self) -> dict[str, str]:
        """The settings of every process."""
        settings = {
            "HEADRACE_KAFKA__BOOTSTRAP": self.cluster.bootstrap,
            "HEADRACE_KAFKA__PREFIX": self.cluster.settings.prefix,
            "HEADRACE_STATE": str(self.folder / "state"),
            "HEADRACE_SERVICES__EXTERNAL": "true",
            "HEADRACE_ASSEMBLER__SESSION_TIMEOUT": "6s",
            "HEADRACE_ARCHIVER__SESSION_TIMEOUT": "6s",
            "HEADRACE_DIRECTORY_SOURCE__SETTLE": "200ms",
            "HEADRACE_DIRECTORY_SOURCE__CHUNK_SIZE": "64KiB",
        }
        if self._s3 is not None:
            settings |= {"AWS_ACCESS_KEY_ID": self._s3.access_key, "AWS_SECRET_ACCESS_KEY": self._s3.secret_key}
        return settings

    def watch(self, name: str = "watch") -> Service:
        """The source of the watched folder."""
        job = () if self._job is None else ("--job", self._job)
        detached = 0 if self._job is None else int(Exit.DETACHED)
        return self._service(name, "watch", self.source, "--source", SOURCE, *job, ends_with=detached)

    def assembler(self, name: str = "assembler", sink: str = "main") -> Service:
        """A copy of the assembler of one tree."""
        tree = self.trees.setdefault(sink, self.folder / f"tree-{sink}")
        self._groups.add(self.cluster.group_name("assembler", sink))
        return self._service(name, "assemble", tree, "--sink", sink)

    def archiver(self, name: str = "archiver", endpoint: str | None = None) -> Service:
        """A copy of the archiver of the bucket; `endpoint` may lead through something that breaks."""
        self._groups.add(self.cluster.group_name("archiver", "lake"))
        place = ("--bucket", self._bucket, "--endpoint", endpoint or self.endpoint)
        return self._service(name, "archive", *place, "--sink", "lake")

    def _service(self, name: str, *arguments: str | Path, ends_with: int = 0) -> Service:
        service = Service(name, self.folder, [*arguments, "--metrics-port", "0"], self.environment, ends_with)
        self.services[name] = service
        return service

    def keep(self) -> None:
        """Start what ended by itself, as a supervisor would."""
        for name, service in self.services.items():
            words = service.revive()
            if words is not None:
                self._say(f"{name} ended by itself: {words[:300]}")

    def tails(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"== {name}\n{service.tail()}" for name, service in self.services.items())

    @property
    def kills(self) -> int:
        """Processes killed so far."""
        return sum(service.kills for service in self.services.values())

    def end(self) -> None:
        """Kill what still runs, when a test has failed."""
        for service in self.services.values():
            if service.running:
                service.wake()
                service.kill()

    # --- files ---

    def drop(self, path: str, size: int) -> Path:
        """Put a file into the watched folder, or a new version of one, with bytes that compress to nothing."""
        place = self.source / path
        place.parent.mkdir(parents=True, exist_ok=True)
        written = self.folder / "written"
        written.write_bytes(self.random.randbytes(size))
        written.rename(place)
        self.bytes_written += size
        self.files_written += 1
        return place

    def drop_small(self, count: int, largest: int = 200 * KILOBYTE) -> None:
        """Put in a number of small files, empty ones among them."""
        for _ in range(count):
            size = self.random.choice([0, 1, self.random.randrange(largest), self.random.randrange(largest // 10)])
            self.drop(f"run {self.random.randrange(5)}/{self.files_written:05d}.dat", size)

    def change_one(self) -> None:
        """Write a new version of some file that is there."""
        files = sorted(path for path in self.source.rglob("*") if path.is_file())
        if files:
            chosen = self.random.choice(files)
            self.drop(str(chosen.relative_to(self.source)), self.random.randrange(300 * KILOBYTE))

    # --- the end ---

    def books(self) -> tuple[Outcome, list[Account]]:
        """The books as they stand."""
        outcome = Outcome()
        try:
            return outcome, [account for account, _ in Verification(self.cluster).run(outcome)]
        except TransientError as error:
            raise AssertionError(str(error)) from error

    def received(self) -> int:
        """How many versions are delivered, over all groups; fails if a service has ended by itself."""
        for service in self.services.values():
            service.check()
        outcome, _ = self.books()
        return sum(book.counts["delivered"] for book in outcome.totals.books.values())

    def chunk_messages(self) -> int:
        """How many messages the chunks topic holds; fails while Kafka does not answer."""
        try:
            return describe(self.cluster, [CHUNKS])[CHUNKS.name].messages
        except TransientError as error:
            raise AssertionError(str(error)) from error

    def partition(self, path_id: str) -> int:
        """The partition of a path, by its id in hexadecimal digits."""
        return partition_of(path_id, self.cluster.partitions(CHUNKS))

    def announced(self) -> bool:
        """Whether all files of the folder are announced; says which are not."""
        self._check_announced(self.books()[1])
        return True

    def balanced(self, exit_codes: Collection[int] = (0,)) -> bool:
        """Whether all files of the folder are announced and the books of all groups balance; says in words why not."""
        self.keep()
        outcome, accounts = self.books()
        announced = {
            (account.sent.path, account.sent.size, account.sent.mtime_ns)
            for account in accounts
            if account.sent is not None and account.sent.state == "announced"
        }
        there = {(path, status.st_size, status.st_mtime_ns) for path, status in oracle.files_below(self.source).items()}
        absent = there - announced
        assert not absent, f"{len(absent)} of {len(there)} files are not announced: {sorted(absent)[:3]}"
        absent_groups = self._groups - outcome.totals.books.keys()
        assert not absent_groups, f"nothing received by {absent_groups}"
        assert outcome.exit_code in exit_codes, verdict(outcome) + "".join(
            f"\n  {account.sent}: {account.entries}" for account in accounts if not account.good
        )
        return True

    def _check_announced(self, accounts: list[Account]) -> None:
        announced = {
            (account.sent.path, account.sent.size, account.sent.mtime_ns)
            for account in accounts
            if account.sent is not None and account.sent.state == "announced"
        }
        there = {(path, status.st_size, status.st_mtime_ns) for path, status in oracle.files_below(self.source).items()}
        absent = there - announced
        assert not absent, f"{len(absent)} of {len(there)} files are not announced: {sorted(absent)[:3]}"

    def finish(
        self,
        within: float = 60.0,
        exit_codes: Collection[int] = (0,),
        *,
        partials: Callable[[bytes], bool] = lambda _: False,
        expired: Collection[bytes] = (),
    ) -> oracle.Truth:
        """Wait until the books balance, drain all services, and let the oracle and `headrace verify` judge.

        Parameters:
            partials: which names below a tree's `.headrace` may be left.
            expired: paths that are delivered and whose frames are no longer on the log, so that no oracle sees them.
        """
        wait_until(lambda: self.balanced(exit_codes), within=within, every=0.3)
        for service in self.services.values():
            service.stop()
        truth = oracle.rebuild(self.cluster.bootstrap, self.cluster.settings.prefix, self.folder)
        unseen = {f"extra: {path!r}" for path in expired}
        wrong = [line for line in self.judge(truth, partials) if line not in unseen]
        code, summary = self.verify("--json")
        if code not in exit_codes:
            wrong.append(f"verify ends with {code}: {summary.get('verdict')}")
        wrong += self.books_wrong(summary)
        assert not wrong, "\n".join(wrong)
        self._say(
            f"seed {self.seed}: {self.kills} kills, {sum(s.revivals for s in self.services.values())} revivals, "
            f"{self.files_written} files written, {self.bytes_written / MEGABYTE:.1f} MB, "
            f"{len(truth.whole)} whole versions; {summary['verdict']}"
        )
        return truth

    def judge(self, truth: oracle.Truth, partials: Callable[[bytes], bool] = lambda _: False) -> list[str]:
        """Everything the oracle finds wrong, with the folder that was watched as a second witness."""
        wrong: list[str] = []
        for tree in self.trees.values():
            wrong += oracle.check_folder(truth, tree, refused=self.refused, partials=partials)
            wrong += different(self.source, tree)
        if self._s3 is not None and any(".archiver." in group for group in self._groups):
            wrong += oracle.check_bucket(truth, self._s3.client(), self._bucket, refused=self.refused)
        prefix = self.cluster.settings.prefix
        return wrong + oracle.check_receipts(truth, self.cluster.bootstrap, prefix, self._groups, refused=self.refused)

    def books_wrong(self, summary: Mapping[str, Any]) -> list[str]:
        """Where the books of verify, and a ledger's of the job, are not those that the raw topics give."""
        told = books.told(self.cluster.bootstrap, self.cluster.settings.prefix)
        wrong = books.wrong_in_verify(told, summary)
        if self._job is not None:
            wrong += books.wrong_in_job(told, stopped_job(self.cluster, self._job, self._groups), self._groups)
        return wrong

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit code and summary of `headrace verify --json`, as a user runs it."""
        done = subprocess.run(
            [HEADRACE, "verify", *arguments], env={**os.environ, **self.environment}, cwd=self.folder,
            capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        lines = done.stdout.splitlines()
        return done.returncode, json.loads(lines[-1]) if lines else {"verdict": done.stderr.decode()}


def different(source: Path, tree: Path) -> Iterable[str]:
    """Files of the watched folder that a tree has not, or not the same."""
    for path in oracle.files_below(source):
        name = os.fsdecode(path)
        if not (tree / name).is_file():
            yield f"not in {tree.name}: {path!r}"
        elif (tree / name).read_bytes() != (source / name).read_bytes():
            yield f"not the same in {tree.name}: {path!r}"
