"""Students: from the nightly dump to ART, the registration system."""

from __future__ import annotations

from headrace.families import CommandEntry, Family

family = Family(
    name="art",
    sandbox=(
        CommandEntry("art", "headrace_art.sandbox.command:art", "Run a stand-in for ART."),
        CommandEntry("students", "headrace_art.sandbox.dump.command:students", "Make the nightly files of a state."),
    ),
)
