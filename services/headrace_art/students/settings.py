"""Settings of the students stage; where ART is and what is made of a row stands in `[art]`."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from headrace.config import Duration, StageSettings

UnknownSchools = Literal["hold", "dead-letter", "unlinked"]


class StudentsSettings(StageSettings):
    """What the stage needs to know."""

    sink: str = Field(
        "art",
        pattern=r"^[a-zA-Z0-9._-]{1,100}$",
        description="Name of the ART that is filled: its copies share the work.",
    )
    unknown_schools: UnknownSchools = Field(
        "hold",
        description="Students of a school that ART has not confirmed: hold (they go out once it is there), dead-letter,"
        " or unlinked (sent with the id that the codes make; ART takes them, and shows them to nobody).",
    )
    entities: Literal["job", "last"] = Field(
        "job", description="Wait for the schools of the same job, or take those that were confirmed last."
    )
    entities_wait: Duration = Field(
        timedelta(hours=1), description="Longest wait for the schools of a job; then those that are known have to do."
    )
    ceiling: int = Field(
        20_000, ge=1, description="Students that ART may have taken and not processed, for all copies together."
    )
    linger: Duration = Field(timedelta(seconds=1), description="Longest wait for a batch to fill up.")
    slow: Duration = Field(
        timedelta(seconds=15), description="An answer to a batch that takes longer than this makes batches smaller."
    )
    stall: Duration = Field(
        timedelta(minutes=10), description="A batch that ART has not gone on with for this long is sent again."
    )
    access_wait: Duration = Field(
        timedelta(minutes=1),
        description="How long students are tried again whose school ART does not grant yet, as after its creation.",
    )
    incomplete_after: Duration = Field(
        timedelta(hours=24), description="Give up a file whose end marker has not come for this long."
    )
