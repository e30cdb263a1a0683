"""The sums of the books, per group and over all, and the verdict that follows from them."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from headrace.events import FileState
from headrace.proof.books import GOOD, Account, Entry, Status


class Book(msgspec.Struct):
    """One group's sums over file versions; `settled` are those among the bad ones that a later attempt made good."""

    counts: Counter[Status] = msgspec.field(default_factory=Counter)
    delivered_bytes: int = 0
    settled: Counter[Status] = msgspec.field(default_factory=Counter)
    bad: int = 0
    put_aside: int = 0

    @property
    def sent(self) -> int:
        """Every version there is an entry of."""
        return self.counts.total()

    def left(self, status: Status) -> int:
        """Entries of that status which no later attempt settled."""
        return self.counts[status] - self.settled[status]

    def take(self, account: Account, entry: Entry) -> None:
        """Add one entry; each version of each group exactly once."""
        self.counts[entry.status] += 1
        if entry.status == "delivered":
            received_size = entry.received.size if entry.received else None
            self.delivered_bytes += received_size or (account.sent.size if account.sent else None) or 0
        if entry.settled_by is not None:
            self.settled[entry.status] += 1
        elif entry.status in ("dead_lettered", "held"):
            self.put_aside += 1
        elif not entry.good:
            self.bad += 1

    def add(self, other: Book) -> None:
        """Add the sums over other versions."""
        self.counts.update(other.counts)
        self.delivered_bytes += other.delivered_bytes
        self.settled.update(other.settled)
        self.bad += other.bad
        self.put_aside += other.put_aside


class Kind(NamedTuple):
    """What decides which groups must have a version, and how it stands with those that have not spoken of it.

    `topic` is that of its frames, `of_dataset` whether it names a dataset.
    """

    topic: str
    state: FileState
    of_dataset: bool


class Totals(msgspec.Struct):
    """The sums over all groups, and what follows from them."""

    books: dict[str, Book] = msgspec.field(default_factory=dict)
    versions: int = 0
    sent_bytes: int = 0
    unannounced: int = 0
    stray_dead_letters: int = 0
    kinds: Counter[Kind] = msgspec.field(default_factory=Counter)
    unread: Counter[Kind] = msgspec.field(default_factory=Counter)

    def take(self, account: Account, *, of_all_groups: bool = True) -> None:
        """Add one version; each exactly once.

        Parameters:
            of_all_groups: whether the account is of every group, so that a version without an entry has no reader.
        """
        self.versions += 1
        if account.sent is None:
            self.unannounced += 1
        else:
            self.sent_bytes += account.sent.size or 0
            kind = Kind(account.sent.topic, account.sent.state, account.sent.dataset is not None)
            self.kinds[kind] += 1
            if of_all_groups and not account.entries:
                self.unread[kind] += 1
        for group, entry in account.entries.items():
            book = self.books.get(group)
            if book is None:
                book = self.books[group] = Book()
            book.take(account, entry)

    def expect_also(self, group: str, topic: str, *, of_datasets: bool) -> None:
        """A group without a committed position turned up late: it has no receipt of any version of `topic` so far.

        Parameters:
            of_datasets: whether it must have only files that name a dataset.
        """
        book = self.books.setdefault(group, Book())
        for kind, count in self.kinds.items():
            if kind.topic != topic or (of_datasets and not kind.of_dataset):
                continue
            self.unread.pop(kind, None)
            status: Status = "unchanged" if kind.state == "aborted" else "failed" if kind.state == "expired" else "open"
            book.counts[status] += count
            book.bad += 0 if status in GOOD else count

    @property
    def unreceived(self) -> int:
        """Versions that no group must have: nobody reads them."""
        return self.unread.total()

    @property
    def bad(self) -> int:
        """Entries that failed, are missing or still open, and versions that no group reads."""
        return sum(book.bad for book in self.books.values()) + self.unreceived

    @property
    def put_aside(self) -> int:
        """Entries and stray messages that wait for an operator: dead-lettered or held."""
        return sum(book.put_aside for book in self.books.values()) + self.stray_dead_letters

    @property
    def exit_code(self) -> int:
        """0 everything delivered or unchanged, 1 something is not, 3 balanced with dead letters or held items.

        Source: design section 4, exit codes.
        """
        if self.bad:
            return 1
        return 3 if self.put_aside else 0
