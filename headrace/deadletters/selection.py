"""Which dead letters are meant, and how each of them stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from headrace.deadletters.decisions import Decision, Verdict
from headrace.deadletters.letters import DeadLetter, Id
from headrace.errors import ConfigError
from headrace.proof.groups import belongs_to

MOST_ATTEMPTS = 5
"""A message that has died this often is quarantined: it stays, and is not re-driven unless forced."""

State = Literal["open", "quarantined"] | Verdict


class NotAnId(ConfigError):
    """{text!r} names no dead letter. Name it by partition and offset, as `headrace dlq list` shows it: 2:17."""

    code = "not-an-id"


@dataclass(frozen=True)
class Selection:
    """Filters; those that are empty let everything pass, several values of one are alternatives.

    Parameters:
        codes: reasons; `services`: a service, a sink, `service.sink`, or a group; `topics`: with or without prefix.
        since, until: when the message was put aside, milliseconds since the epoch; `until` is not included.
        ids: these letters and no others.
    """

    prefix: str
    codes: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()
    topics: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    items: frozenset[str] = frozenset()
    since: int | None = None
    until: int | None = None
    ids: frozenset[Id] = frozenset()

    def takes(self, letter: DeadLetter) -> bool:
        """Whether the letter is meant."""
        return (
            (not self.ids or letter.id in self.ids)
            and (not self.codes or letter.code in self.codes)
            and (not self.topics or not self.topics.isdisjoint((letter.topic, letter.topic.removeprefix(self.prefix))))
            and (not self.jobs or letter.job in self.jobs)
            and (not self.items or letter.item in self.items)
            and (self.since is None or letter.at >= self.since)
            and (self.until is None or letter.at < self.until)
            and (not self.services or any(self._of_service(letter.group, name) for name in self.services))
        )

    def _of_service(self, group: str, name: str) -> bool:
        service = group.removeprefix(self.prefix).partition(".")[0]
        return service == name or belongs_to(group, name, self.prefix)


@dataclass
class Histogram:
    """How many dead letters of which reason, service and topic; times in milliseconds since the epoch."""

    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    oldest: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    newest: dict[tuple[str, str, str, str], int] = field(default_factory=dict)

    def take(self, letter: DeadLetter, state: str) -> None:
        """Count one."""
        row = (letter.code, letter.group, letter.topic, state)
        self.counts[row] += 1
        self.oldest[row] = min(letter.at, self.oldest.get(row, letter.at))
        self.newest[row] = max(letter.at, self.newest.get(row, letter.at))


def state_of(letter: DeadLetter, decisions: Mapping[Id, Decision], most_attempts: int = MOST_ATTEMPTS) -> State:
    """How the letter stands."""
    decision = decisions.get(letter.id)
    if decision is not None:
        return decision.verdict
    return "quarantined" if letter.attempt >= most_attempts else "open"


def parse_id(text: str) -> Id:
    """The place that `2:17` names.

    Raises NotAnId.
    """
    partition, _, offset = text.partition(":")
    if not (partition.isdecimal() and offset.isdecimal() and partition.isascii() and offset.isascii()):
        raise NotAnId(text=text)
    return int(partition), int(offset)
