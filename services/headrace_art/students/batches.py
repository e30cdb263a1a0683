"""The lines of one batch that are of one part of a file: what its receipt says of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyroaring import BitMap64

from headrace.errors import PermanentError
from headrace.events import Outcome
from headrace_art.students.deciding import Pending


@dataclass(slots=True)
class BatchLines:
    """Lines by outcome and code; `last` is the offset of the last of them."""

    by_outcome: dict[tuple[Outcome, str | None], BitMap64] = field(default_factory=dict)
    last: int = 0

    def add(self, pending: Pending, problem: PermanentError | None) -> None:
        """One more line, and what became of it."""
        outcome: tuple[Outcome, str | None] = ("delivered", None)
        if problem is not None:
            outcome = ("dead_lettered", problem.code)
        self.by_outcome.setdefault(outcome, BitMap64()).add(pending.line)
        self.last = max(self.last, pending.message.offset)
