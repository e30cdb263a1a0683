"""Students: from the nightly dump to ART, the registration system."""

from __future__ import annotations

from headrace.families import CommandEntry, Family, SectionEntry

family = Family(
    name="art",
    sections=(
        SectionEntry(
            name="art",
            purpose="the registration system that students, districts and schools go to",
            settings="headrace_art.client.settings:ArtSettings",
            check="headrace_art.checks:art",
        ),
    ),
    commands=(
        CommandEntry("art", "headrace_art.commands:app", "Load students into ART, and compare it with their dump."),
    ),
    sandbox=(
        CommandEntry("art", "headrace_art.sandbox.command:art", "Run a stand-in for ART."),
        CommandEntry("students", "headrace_art.sandbox.dump.command:students", "Make the nightly files of a state."),
    ),
)
