"""Waiting for the receipts of reassembly, and what they mean for the exit code."""

from __future__ import annotations

import queue
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum

from headrace.events import Covers, FileEvent, Outcome, UploadAck
from headrace.kafka.clients import Cluster
from headrace.keys import Key
from headrace.receipts import worst
from headrace_files.sending.receipts import ReceiptFollower, ends

ASSEMBLER = "assembler"


class Exit(IntEnum):
    """Exit codes. Source: design section 4."""

    DELIVERED = 0
    FAILED = 1
    PUT_ASIDE = 3
    DETACHED = 4
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a receiver says of a file: the worst outcome of those that its receipt covers."""

    path_id: str
    file: str
    group: str
    partition: int
    last: int
    outcome: Outcome
    code: str | None
    where: str | None

    def answers(self, event: FileEvent) -> bool:
        """Whether it is about what was sent now, not about an earlier sending of the same version."""
        return self.file == event.file.hex() and self.partition == event.partition and self.last >= (event.first or 0)


def receipt_of(key: Key, ack: UploadAck) -> Receipt:
    """The receipt with this key (path id, group, file id)."""
    found = worst(ack.covers) if ack.covers else Covers(outcome="delivered")
    return Receipt(key[0], key[2], key[1], ack.partition, ack.last, found.outcome, found.code, ack.where)


def exit_code(outcomes: Iterable[Outcome | None], *, unsent: bool) -> Exit:
    """What to tell scripts.

    Parameters:
        outcomes: of the files that are waited for; None: no receipt came in time.
        unsent: some file is not on the log.
    """
    found = set(outcomes)
    if unsent or "failed" in found:
        return Exit.FAILED
    if found & {"dead_lettered", "held"}:
        return Exit.PUT_ASIDE
    return Exit.DETACHED if None in found else Exit.DELIVERED


class AssemblyReceipts:
    """Receipts of assemblers for some paths, from now on.

    Parameters:
        sink: the tree that counts; None: the first that answers.
        paths: path ids in hexadecimal.
    """

    def __init__(self, cluster: Cluster, sink: str | None, paths: Collection[str]) -> None:
        group = cluster.group_name(ASSEMBLER, sink or "")
        self._found: queue.SimpleQueue[Receipt] = queue.SimpleQueue()

        def wanted(key: Key) -> bool:
            return len(key) == 3 and key[0] in paths and (key[1] == group if sink else key[1].startswith(group))

        self._follower = ReceiptFollower(
            cluster, wanted, lambda key, ack: self._found.put(receipt_of(key, ack)), starts=ends(cluster)
        )

    def next(self, seconds: float) -> Receipt | None:
        """The next receipt, None if there is none within `seconds`."""
        try:
            return self._found.get(timeout=seconds)
        except queue.Empty:
            return None

    def stop(self) -> None:
        """End following."""
        self._follower.stop()
