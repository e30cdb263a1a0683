"""Batch status records. Source: reference art 3.4, 3.5."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Batch:
    """One POST of many students, followed until its last one."""

    id: str
    state: str
    user: str
    submitted: int
    upsert: bool
    submitted_at: float
    processed: int = 0
    success: int = 0
    updated_at: float | None = None
    lost: int = 0
    exceptions: dict[tuple[str | None, str], None] = field(default_factory=dict)
    """A set: identical pairs of SSID and message are stored once."""

    def succeeded(self, now: float) -> None:
        """One student went well, or was unchanged."""
        self.processed += 1
        self.success += 1
        self.updated_at = now

    def failed(self, ssid: str | None, message: str, now: float) -> None:
        """One student failed for good."""
        self.processed += 1
        self.exceptions[ssid, message] = None
        self.updated_at = now

    @property
    def outcome(self) -> str:
        """`done`, `lost` if it can never be, else `open`."""
        if self.processed == self.submitted:
            return "done"
        return "lost" if self.processed + self.lost == self.submitted else "open"

    def status(self) -> dict[str, Any]:
        """The record as it is answered. An empty array's fraction is not a number, which JSON cannot say: "NaN"."""
        return {
            "id": self.id,
            "percentComplete": self.processed / self.submitted if self.submitted else "NaN",
            "numProcessed": self.processed,
            "numSubmitted": self.submitted,
            "numSuccess": self.success,
            "numExceptions": len(self.exceptions),
            "exceptions": [{"ssid": ssid, "errorMessage": text} for ssid, text in self.exceptions],
            "upsert": self.upsert,
            "submittedBy": self.user,
            "submittedDate": _timestamp(self.submitted_at),
            "updatedDate": None if self.updated_at is None else _timestamp(self.updated_at),
            "stateCode": self.state,
        }


def _timestamp(seconds: float) -> str:
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}+0000"
