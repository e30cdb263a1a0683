"""Operations: the ledger keeps the books of jobs, alarms tell of trouble."""

from __future__ import annotations

from headrace.families import Family, StageEntry

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
        ),
    ),
)
