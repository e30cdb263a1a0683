"""Operations: the ledger keeps the books of jobs, alarms tell of trouble, the console shows it."""

from __future__ import annotations

from headrace.families import CommandEntry, Family, StageEntry

family = Family(
    name="ops",
    stages=(
        StageEntry(
            name="ledger",
            purpose="keeps the books of jobs",
            settings="headrace_ops.ledger.settings:LedgerSettings",
            factory="headrace_ops.ledger.service:service",
            metrics="headrace_ops.ledger.service:METRICS",
            reads=("files", "upload-acks"),
            writes=("jobs",),
        ),
        StageEntry(
            name="alarms",
            purpose="tells what an operator must look at",
            settings="headrace_ops.alarms.settings:AlarmsSettings",
            factory="headrace_ops.alarms.service:service",
            metrics="headrace_ops.alarms.service:METRICS",
            reads=("files", "upload-acks", "jobs"),
            duties=("monitor",),
        ),
        StageEntry(
            name="console",
            purpose="shows pages to watch with, and re-drives dead letters",
            settings="headrace_ops.console.settings:ConsoleSettings",
            factory="headrace_ops.console.service:service",
            reads=("files", "upload-acks", "jobs", "dead-letters"),
            writes=("upload-acks", "jobs"),
            duties=("monitor", "dead-letters", "redrive"),
        ),
    ),
    commands=(CommandEntry("console", "headrace_ops.console.command:console", "Serve pages to watch Headrace with."),),
)
