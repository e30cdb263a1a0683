"""Settings of the ledger."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from headrace.config import Duration, ServiceSettings


class LedgerSettings(ServiceSettings):
    """What the ledger needs to know."""

    write_every: Duration = Field(
        timedelta(milliseconds=500),
        description="The least time between two entries of one job on the log.",
        ge=timedelta(milliseconds=50),
    )
