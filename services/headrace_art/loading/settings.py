"""The section `[art_load]`: which files are the nightly dump."""

from __future__ import annotations

from pydantic import Field

from headrace.config import Section


class ArtLoadSettings(Section):
    """What `headrace art load` needs to know; the server stands in `[sftp_source]`, ART in `[art]`."""

    students: str = Field(
        "./Students/CA_students_%Y%m%d.zip",
        description="The student file on the server; % stands for parts of the night's local date, as in strftime.",
        min_length=1,
    )
    schools: str = Field(
        "./Schools/CA_schools_%Y%m%d.zip", description="The schools file on the server, likewise.", min_length=1
    )
