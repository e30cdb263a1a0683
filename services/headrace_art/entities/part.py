"""One part of a schools file: what its rows ask for, what became of that, and so of the rows."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pyroaring import BitMap64

from headrace.errors import PermanentError
from headrace.events import Outcome
from headrace.stage.contract import Message
from headrace_art.accounting import FilePart
from headrace_art.entities.registrar import Registered
from headrace_art.entity_plan import Action, Kind, Wanted, keep_first
from headrace_art.topics import Entity

PARENT_CHANGED = "art-parent-changed"
"""Code of held lines: ART has the school under another district, which a person must look at."""

_HELD: tuple[Outcome, str | None] = ("held", PARENT_CHANGED)
_DELIVERED: tuple[Outcome, str | None] = ("delivered", None)
_UNCHANGED: tuple[Outcome, str | None] = ("unchanged", None)


class Asked(NamedTuple):
    """A row that asks for something, and what students name its school by."""

    message: Message
    line: int
    code: str


@dataclass(slots=True, eq=False)
class SchoolsPart:
    """What one part of a schools file asks for.

    `begun` is when it was brought to ART, in microseconds since 1970; `news` what became of some since they were last
    taken, which another thread adds to; `registered` is set there after the last of them, `complete` once that was
    taken. `publishing` counts what is on its way to the log, `reaches` is what `EntitiesDone` tells, `ending` whether
    that is on its way.
    """

    part: FilePart
    wanted: dict[tuple[Kind, str], Wanted] = field(default_factory=dict)
    begun: int = 0
    news: deque[Registered] = field(default_factory=deque)
    registered: bool = False
    complete: bool = False
    done: list[Registered] = field(default_factory=list)
    publishing: int = 0
    reaches: dict[str, int] = field(default_factory=dict)
    ending: bool = False
    _rows: dict[tuple[Kind, str], list[Asked]] = field(default_factory=dict)

    def ask(self, message: Message, line: int, code: str, wanted: Sequence[Wanted]) -> None:
        """Take a row. Raises EntityTwice."""
        row = Asked(message, line, code)
        for each in wanted:
            keep_first(each, self.wanted)
            self._rows.setdefault((each.kind, each.entity_id), []).append(row)

    def take_news(self) -> Iterator[Registered]:
        """What ART has confirmed since this was asked before."""
        while self.news:
            registered = self.news.popleft()
            self.done.append(registered)
            if registered.problem is None:
                yield registered

    def event(self, registered: Registered) -> Entity:
        """What others are to know of a district or school that ART has confirmed."""
        wanted, part = registered.wanted, self.part
        # Of a code that moved it counts who asked for it in the later file.
        codes = [] if wanted.kind == "district" else [row.code for row in self._rows[wanted.kind, wanted.entity_id]]
        return Entity(
            kind=wanted.kind, entity_id=wanted.entity_id, name=wanted.name, parent_id=registered.parent_id,
            state=wanted.state, codes=codes, job=part.job, file=part.file, at=self.begun,
        )  # fmt: skip

    def settle(self) -> list[tuple[Asked, PermanentError]]:
        """Say of each row what became of it, of a district's row the worse of two; those that are to be put aside."""
        refused: dict[int, tuple[Asked, PermanentError]] = {}
        lines: dict[tuple[Outcome, str | None], BitMap64] = {key: BitMap64() for key in (_HELD, _DELIVERED, _UNCHANGED)}
        for registered in self.done:
            action, parent_changed = registered.decision
            key = _HELD if parent_changed else _UNCHANGED if action is Action.NOTHING else _DELIVERED
            for row in self._rows[registered.wanted.kind, registered.wanted.entity_id]:
                if self.part.settled_as(row.line, "dead_lettered"):
                    continue  # its other half was
                if registered.problem is None:
                    lines[key].add(row.line)
                else:
                    refused.setdefault(row.line, (row, registered.problem))
        worse = BitMap64(refused)
        for key, found in lines.items():
            self.part.settle_all(found - worse, *key)
            worse |= found
        return list(refused.values())

    def figures(self) -> dict[str, int]:
        """For the log."""
        done = [each for each in self.done if each.problem is None]
        return {
            "created": sum(each.decision.action is Action.CREATE for each in done),
            "renamed": sum(each.decision.action is Action.RENAME for each in done),
            "parents_changed": sum(each.decision.parent_changed for each in done),
            "refused": len(self.done) - len(done),
        }
