"""How fast everything moves and how far it is behind: from looks at positions, kept for some minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from headrace.kafka.following import Place
from headrace_ops.positions import Positions

LOOKS = 300
RATE_SECONDS = 8.0
"""Rates are means over at least this long, where there are looks enough: numbers that jump cannot be read."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the cluster; `at` is seconds since the epoch."""

    at: float
    positions: Positions


@dataclass(frozen=True, slots=True)
class GroupFlow:
    """How one group stands: messages a second, messages before it, and those from its oldest unfinished item on."""

    group: str
    topics: tuple[str, ...]
    rate: float
    lag: int
    in_work: int


@dataclass(frozen=True, slots=True)
class TopicFlow:
    """How one topic stands: messages a second, and offsets between its beginning and its end."""

    topic: str
    rate: float
    kept: int
    partitions: int


@dataclass(frozen=True, slots=True)
class History:
    """Rates and lags of groups over time, newest last; None where a group was not there."""

    times: list[float]
    rates: dict[str, list[float | None]]
    lags: dict[str, list[int | None]]


class Flow:
    """Takes looks, answers with rates. Not thread-safe."""

    def __init__(self) -> None:
        self._looks: deque[Look] = deque(maxlen=LOOKS)

    def take(self, look: Look) -> None:
        """The newest look."""
        self._looks.append(look)

    @property
    def newest(self) -> Look | None:
        """The look that was taken last."""
        return self._looks[-1] if self._looks else None

    def groups(self) -> list[GroupFlow]:
        """Every group, by name."""
        newest = self.newest
        if newest is None:
            return []
        earlier = self._earlier()
        found = []
        for group, committed in sorted(newest.positions.groups.items()):
            topics = tuple(sorted({place[0] for place in committed}))
            in_work = sum(each.position - each.low for each in committed.values())
            rate = group_rate(earlier, newest, group)
            found.append(GroupFlow(group, topics, rate, newest.positions.lag(group), in_work))
        return found

    def topics(self) -> list[TopicFlow]:
        """Every topic that is there, by name."""
        newest = self.newest
        if newest is None:
            return []
        earlier, ends = self._earlier(), newest.positions.ends
        found = []
        for topic in sorted({place[0] for place in ends}):
            places = [place for place in ends if place[0] == topic]
            kept = sum(ends[place] - newest.positions.begins.get(place, 0) for place in places)
            moved = _moved(earlier.positions.ends, {place: ends[place] for place in places})
            found.append(TopicFlow(topic, _per_second(moved, earlier, newest), kept, len(places)))
        return found

    def history(self) -> History:
        """Everything that is remembered."""
        looks = list(self._looks)
        groups = sorted({group for look in looks for group in look.positions.groups})
        rates: dict[str, list[float | None]] = {group: [] for group in groups}
        lags: dict[str, list[int | None]] = {group: [] for group in groups}
        for before, look in zip([looks[:1], *([each] for each in looks)], looks, strict=False):
            for group in groups:
                there = group in look.positions.groups
                rates[group].append(round(group_rate(before[0], look, group), 1) if there else None)
                lags[group].append(look.positions.lag(group) if there else None)
        return History([round(look.at, 1) for look in looks], rates, lags)

    def _earlier(self) -> Look:
        newest = self._looks[-1]
        return next((look for look in reversed(self._looks) if newest.at - look.at >= RATE_SECONDS), self._looks[0])


def group_rate(before: Look, after: Look, group: str) -> float:
    """Messages a second that a group has passed between two looks."""
    earlier = {place: each.position for place, each in before.positions.groups.get(group, {}).items()}
    later = {place: each.position for place, each in after.positions.groups.get(group, {}).items()}
    return _per_second(_moved(earlier, later), before, after)


def _moved(before: Mapping[Place, int], after: Mapping[Place, int]) -> int:
    """How far the places that were there before have moved; a group that was rewound has not moved."""
    return sum(max(0, offset - before[place]) for place, offset in after.items() if place in before)


def _per_second(count: int, before: Look, after: Look) -> float:
    seconds = after.at - before.at
    return count / seconds if seconds > 0 else 0.0
