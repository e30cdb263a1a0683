"""Settings of the entities stage; where ART is stands in `[art]`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field

from headrace.config import Duration, StageSettings


class EntitiesSettings(StageSettings):
    """What the stage needs to know."""

    sink: str = Field(
        "art",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of the ART that is filled: its copies share the work.",
    )
    parent_wait: Duration = Field(
        timedelta(seconds=60),
        description="How long a school waits for its district, which another copy may be about to create.",
    )
    incomplete_after: Duration = Field(
        timedelta(hours=24), description="Give up a file whose end marker has not come for this long."
    )
