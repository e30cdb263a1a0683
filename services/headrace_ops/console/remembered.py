"""What the console remembers of the log: the newest files, dead letters and jobs, never more than it is told to."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Container, Iterable

from pyroaring import BitMap64

from headrace.deadletters.decisions import Decision
from headrace.deadletters.letters import DeadLetter, Id
from headrace.events import FileEvent, UploadAck
from headrace.jobs.log import Known, Word
from headrace.proof.books import Account, Positions, accounts, expectations
from headrace.proof.evidence import DEAD_MESSAGE, FILE_ID_BYTES, Evidence, Sent

JOBS_REMEMBERED = 2000


class Files:
    """The newest versions of files, with what groups said of them.

    Parameters:
        most: versions to remember; of those that came first, nothing is left.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._evidence = Evidence()
        self._announced: OrderedDict[bytes, None] = OrderedDict()
        # Receipts that were read before their files' events, or whose files are older than what is read: apart, since
        # they must not push out what is known of others.
        self._early: OrderedDict[bytes, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._announced)

    def take_event(self, event: FileEvent, offset: int) -> None:
        """A source's word; `offset` is its place in its partition of the files topic."""
        self._evidence.take_event(event, offset)
        self._early.pop(event.file, None)
        self._announced[event.file] = None
        self._announced.move_to_end(event.file)
        self._forget_oldest(self._announced)

    def take_receipt(self, ack: UploadAck) -> None:
        """A group's word; what is about no file is not of interest here."""
        file = ack.file if ack.item.startswith(DEAD_MESSAGE) else _file_of(ack.item)
        if file is not None:
            self._evidence.take_receipt(ack)
            if file not in self._announced:
                self._early[file] = None
                self._forget_oldest(self._early)

    def take_decision(self, decision: Decision) -> None:
        """What was decided on a dead letter."""
        self._evidence.take_decision(decision)
        while len(self._evidence.decisions) > self._most:
            del self._evidence.decisions[next(iter(self._evidence.decisions))]

    def search(self, text: bytes, most: int) -> list[Sent]:
        """Versions whose path holds `text`, in upper or lower case, the newest first."""
        wanted = text.lower()
        # By time, not as they came: partitions are read one after another when there is much to read.
        found = (sent for sent in self._evidence.versions.values() if wanted in sent.path.lower())
        return heapq.nlargest(most, found, key=lambda sent: sent.at)

    def accounts(
        self, files: Iterable[bytes], positions: Positions, of_datasets: Container[str] = ()
    ) -> dict[bytes, Account]:
        """What became of some versions in every group that must have them, as `headrace verify` says it.

        Parameters:
            positions: committed offsets.
            of_datasets: groups that must have only files that name a dataset.
        """
        wanted = set(files)
        whole, part = self._evidence, Evidence()
        paths = {whole.versions[file].path_id for file in wanted if file in whole.versions}
        # A later attempt of the same version may settle one that failed.
        known = wanted | {file for file, sent in whole.versions.items() if sent.attempt > 0 and sent.path_id in paths}
        part.decisions = whole.decisions
        for file in known & whole.versions.keys():
            part.versions[file] = whole.versions[file]
        for group, received in whole.receipts.items():
            part.receipts[group] = {file: received[file] for file in known & received.keys()}
        for group, dead in whole.dead.items():
            part.dead[group] = {file: dead[file] for file in known & dead.keys()}
        expected = expectations(part.groups(), positions)
        drawn = accounts(part, expected, of_datasets)
        return {account.file: account for account in drawn if account.file in wanted}

    def versions_of(self, path: bytes) -> list[Sent]:
        """The remembered versions of a path, by its id, the newest first."""
        versions = [sent for sent in self._evidence.versions.values() if sent.path_id == path]
        return sorted(versions, key=lambda sent: sent.at, reverse=True)

    def _forget_oldest(self, order: OrderedDict[bytes, None]) -> None:
        while len(order) > self._most:
            old, _ = order.popitem(last=False)
            self._evidence.versions.pop(old, None)
            for received in self._evidence.receipts.values():
                received.pop(old, None)
            for dead in self._evidence.dead.values():
                dead.pop(old, None)


class DeadLetters:
    """The newest dead letters that nobody has decided on.

    Parameters:
        most: letters to remember.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: OrderedDict[Id, DeadLetter] = OrderedDict()
        self._decided: dict[int, BitMap64] = {}
        self.forgotten = False

    def __len__(self) -> int:
        return len(self._open)

    def take(self, letter: DeadLetter) -> None:
        """One that is on the log."""
        if letter.offset in self._decided.get(letter.partition, ()):
            return
        self._open[letter.id] = letter
        if len(self._open) > self._most:
            self._open.popitem(last=False)
            self.forgotten = True

    def take_decision(self, decision: Decision) -> None:
        """One is open no longer; the decision may be read before the letter."""
        partition, offset = decision.letter
        if partition >= 0 and offset >= 0:
            self._decided.setdefault(partition, BitMap64()).add(offset)
        self._open.pop(decision.letter, None)

    def newest(self) -> list[DeadLetter]:
        """All that are remembered, the newest first."""
        return sorted(self._open.values(), key=lambda letter: letter.at, reverse=True)


class Jobs:
    """The last words on the newest jobs."""

    def __init__(self) -> None:
        self._jobs: dict[str, Known] = {}

    def take(self, word: Word) -> None:
        """A command or the ledger's books."""
        self._jobs.setdefault(word.event.job, Known()).take(word)
        if len(self._jobs) > 2 * JOBS_REMEMBERED:
            self._jobs = dict(self.newest()[:JOBS_REMEMBERED])

    def get(self, job: str) -> Known | None:
        """One job."""
        known = self._jobs.get(job)
        return None if known is None else Known(known.command, known.books)

    def newest(self) -> list[tuple[str, Known]]:
        """All that are remembered, those that were started last first."""
        return sorted(self._jobs.items(), key=lambda each: (started(each[1]), each[0]), reverse=True)


def started(known: Known) -> int:
    """When a job was first heard of, microseconds since the epoch."""
    if known.job is not None:
        return known.job.started
    return known.wanted.at if known.wanted is not None else 0


def _file_of(item: str) -> bytes | None:
    try:
        file = bytes.fromhex(item)
    except ValueError:
        return None
    return file if len(file) == FILE_ID_BYTES else None
