"""Verify: the books of all files, from the log alone or with the destinations read again."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from headrace.config import Sources
from headrace.kafka.clients import Cluster
from headrace.proof.books import Account, Positions, accounts, expectations
from headrace.proof.destinations import Check, Look
from headrace.proof.evidence import Evidence, Received
from headrace.proof.groups import UnknownSink, belongs_to, of_datasets_only, positions, takers_of_others
from headrace.proof.log import Name, Reader
from headrace.proof.totals import Totals
from headrace.stage.contract import Version

READING_AT_ONCE = 4

Checks = Mapping[str, Check]


@dataclass(slots=True)
class Outcome:
    """The end of a verification, filled while its accounts are drawn."""

    totals: Totals = field(default_factory=Totals)
    findings: dict[str, int] = field(default_factory=dict)
    undecodable: int = 0
    without_position: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Destinations that no longer have what they confirmed."""
        return self.findings.get("differs", 0) + self.findings.get("gone", 0)

    @property
    def exit_code(self) -> int:
        """That of the books, or 1 if a destination lost something, or nothing bears the name that was asked for."""
        return 1 if self.lost else self.totals.exit_code


@dataclass(frozen=True, slots=True)
class Verification:
    """What to verify.

    Parameters:
        name: only this file; `since`: only what happened from then on, milliseconds since the epoch.
        sink: only the groups of this sink.
        look: how to look at destinations again; None leaves them alone.
        sources: settings, which may say of a group that it takes files that name no dataset.
    """

    cluster: Cluster
    name: Name | None = None
    since: int | None = None
    sink: str | None = None
    look: Look | None = None
    sources: Sources | None = None

    def run(self, outcome: Outcome) -> Iterator[tuple[Account, Checks]]:
        """Every version with its entry per group, and what was found at the destination per group.

        Raises UnknownSink, UnequalPartitions, MissingTopic, KafkaUnreachable.
        """
        # Positions first: what a group has committed has its receipt on the log before the receipts are read.
        committed = {group: found for group, found in positions(self.cluster).items() if self._wanted(group)}
        topics = {group: frozenset(found) for group, found in committed.items()}
        reader = Reader(self.cluster, self.since, self.name, self._wanted, topics)
        others = takers_of_others(self.sources)
        if limited := self._of_datasets(committed, others):
            # Each partition's evidence tells of its own files only, and some of them of what is asked for only.
            handled = reader.takers_of_others(limited)
            others |= {group.removeprefix(self.cluster.settings.prefix) for group in handled}
        seen: dict[str, set[str]] = {}
        # Partition by partition; a group that is only known by its receipts may turn up in a later one.
        for evidence in reader.evidence():
            for group, said in evidence.groups().items():
                of_group = seen.setdefault(group, set())
                only = group in self._of_datasets([group], others)
                for topic in said - of_group - committed.get(group, {}).keys():
                    outcome.totals.expect_also(group, topic, of_datasets=only)
                of_group |= said
            expected = expectations(seen, committed)
            yield from self._slice(evidence, expected, self._of_datasets(expected, others), outcome)
            # Before the next partition's evidence is gathered.
            del evidence
        outcome.undecodable = reader.undecodable
        outcome.without_position = sorted(seen.keys() - committed.keys())
        if self.sink is not None and not seen and not committed:
            known = ", ".join(sorted(positions(self.cluster))) or "none"
            raise UnknownSink(sink=self.sink, known=known)

    def _wanted(self, group: str) -> bool:
        return self.sink is None or belongs_to(group, self.sink, self.cluster.settings.prefix)

    def _of_datasets(self, groups: Iterable[str], others: Container[str]) -> frozenset[str]:
        return of_datasets_only(groups, self.cluster.settings.prefix, others)

    def _slice(
        self, evidence: Evidence, expected: Positions, of_datasets: Container[str], outcome: Outcome
    ) -> Iterator[tuple[Account, Checks]]:
        checks: Mapping[bytes, Checks] = {}
        found: Iterable[Account] = accounts(evidence, expected, of_datasets)
        if self.look is not None:
            found = list(found)
            meant = [account for account in found if self._meant(account)]
            checks = read_again(meant, newest_of_each_place(found), self.look)
        for account in found:
            if not self._meant(account):
                continue
            outcome.totals.take(account, of_all_groups=self.sink is None)
            if self.sink is not None and not account.entries:
                continue
            here = checks.get(account.file, {})
            for result in here.values():
                outcome.findings[result.finding] = outcome.findings.get(result.finding, 0) + 1
            yield account, here
        if self.name is None:
            outcome.totals.stray_dead_letters += evidence.stray_messages()

    def _meant(self, account: Account) -> bool:
        """Other versions of the path are read too when one is asked for by its id, since they may settle it."""
        name = self.name
        if name is None:
            return True
        return account.file == name.file or (account.sent is not None and name.names(account.sent))


Place = tuple[str, str | None, bytes | None]
"""A group, where it puts a file, and the file's id where there is room for every version, as on a topic."""


def newest_of_each_place(found: Sequence[Account]) -> dict[Place, Version]:
    """Which version lies at each place of each group: the newest of those that were delivered there."""
    newest: dict[Place, Version] = {}
    for account, group, received in _delivered(found):
        version = Version(received.ctime_ns, received.first, account.file)
        place = _place(account, group, received)
        known = newest.get(place)
        if known is None or version.newer_than(known):
            newest[place] = version
    return newest


def read_again(meant: Sequence[Account], newest: Mapping[Place, Version], look: Look) -> dict[bytes, dict[str, Check]]:
    """What lies at the destinations of every delivered version, by file id and group.

    Parameters:
        newest: the version that must lie at each place; others were replaced by it.
        look: what it says of a receipt's place, None if nobody can look there; called from several threads.
    """
    checks: dict[bytes, dict[str, Check]] = {}
    reading: list[tuple[bytes, str, Future[Check | None]]] = []
    with ThreadPoolExecutor(READING_AT_ONCE, thread_name_prefix="verify") as pool:
        for account, group, received in _delivered(meant):
            if newest[_place(account, group, received)].file == account.file:
                reading.append((account.file, group, pool.submit(look, account.file, received)))
            else:
                checks.setdefault(account.file, {})[group] = Check("replaced", "a newer version lies there")
        for file, group, future in reading:
            if (found := future.result()) is not None:
                checks.setdefault(file, {})[group] = found
    return checks


def _delivered(found: Sequence[Account]) -> Iterator[tuple[Account, str, Received]]:
    for account in found:
        for group, entry in account.entries.items():
            # Of a file that is delivered line by line some may be, though it is as bad as its worst.
            if entry.received is not None and (entry.status == "delivered" or entry.received.lines is not None):
                yield account, group, entry.received


def _place(account: Account, group: str, received: Received) -> Place:
    return group, received.where, None if received.lines is None else account.file
