"""Which alarms are raised: each is told once when it begins and once when it ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from headrace_ops.alarms.rules import Alarm, Kind


@dataclass(frozen=True, slots=True)
class Notice:
    """An alarm that began or ended. `since` is when it was raised."""

    event: Literal["raised", "cleared"]
    alarm: Alarm
    since: datetime
    at: datetime


class Board:
    """The alarms that stand."""

    def __init__(self) -> None:
        self._standing: dict[tuple[Kind, str], tuple[Alarm, datetime]] = {}

    @property
    def standing(self) -> int:
        """How many alarms stand."""
        return len(self._standing)

    def update(self, alarms: Iterable[Alarm], now: datetime) -> list[Notice]:
        """Take what is alarming now; returns what has changed."""
        current = {(alarm.kind, alarm.about): alarm for alarm in alarms}
        notices = []
        for about, (alarm, since) in list(self._standing.items()):
            if about not in current:
                del self._standing[about]
                notices.append(Notice("cleared", alarm, since, now))
        for about, alarm in current.items():
            known = self._standing.get(about)
            self._standing[about] = (alarm, now if known is None else known[1])
            if known is None:
                notices.append(Notice("raised", alarm, now, now))
        return notices
