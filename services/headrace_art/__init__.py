"""Students: from the nightly dump to ART, the registration system."""

from __future__ import annotations

from headrace.families import CommandEntry, DemoEntry, Family, PageEntry, SectionEntry, StageEntry

family = Family(
    name="art",
    sections=(
        SectionEntry(
            name="art",
            purpose="the registration system that students, districts and schools go to",
            settings="headrace_art.client.settings:ArtSettings",
            check="headrace_art.checks:art",
        ),
        SectionEntry(
            name="art_load",
            purpose="which files `headrace art load` loads",
            settings="headrace_art.loading.settings:ArtLoadSettings",
        ),
    ),
    topics="headrace_art.topics:TOPICS",
    stages=(
        StageEntry(
            name="entities",
            purpose="registers districts and schools at ART",
            settings="headrace_art.entities.settings:EntitiesSettings",
            factory="headrace_art.entities.service:service",
            reads=("records.art_schools",),
            writes=("entities", "upload-acks", "dead-letters", "jobs"),
        ),
        StageEntry(
            name="students",
            purpose="brings new and changed students to ART",
            settings="headrace_art.students.settings:StudentsSettings",
            factory="headrace_art.students.service:service",
            metrics="headrace_art.students.metrics:METRICS",
            reads=("records.art_students", "entities", "state.students"),
            writes=("state.students", "upload-acks", "dead-letters", "jobs"),
        ),
    ),
    commands=(
        CommandEntry("art", "headrace_art.commands:app", "Load students into ART, and compare it with their dump."),
    ),
    sandbox=(
        CommandEntry("art", "headrace_art.sandbox.command:art", "Run a stand-in for ART."),
        CommandEntry("students", "headrace_art.sandbox.dump.command:students", "Make the nightly files of a state."),
    ),
    pages=(PageEntry("students", "Students", "headrace_art.console.page:PAGE"),),
    demos=(
        DemoEntry(
            "students", "headrace_art.demo.nights:demo", "a state's dump goes to the registration system, two nights"
        ),
    ),
)
