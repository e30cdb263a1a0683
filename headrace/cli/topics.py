"""`headrace topics`: what topics there are, which there should be, and the picture of who reads and writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.acl import acl
from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import Session, begin, embedded_broker
from headrace.config import format_duration
from headrace.families import catalogue, families, named
from headrace.kafka.admin import Change, TopicState, apply, describe, plan
from headrace.kafka.clients import Cluster

app = typer.Typer(no_args_is_help=True, help="List, create and describe topics.")
app.command("acl")(acl)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List every topic that Headrace uses, and who writes and reads it; needs no Kafka."""
    settings = begin(context).settings
    stages = [stage for family in families() for stage in family.stages]
    rows = [
        {
            "topic": settings.kafka.prefix + topic.name,
            "purpose": topic.purpose,
            "key": topic.key,
            "cleanup": topic.cleanup,
            "retention": None if topic.retention is None else format_duration(topic.retention),
            "writers": [stage.name for stage in stages if named(topic.name, stage.writes)],
            "readers": [stage.name for stage in stages if named(topic.name, stage.reads)],
        }
        for topic in catalogue(datasets=settings.datasets.folder)
    ]
    if json:
        print_json(rows)
        return
    print_table(
        ["topic", "cleanup", "retention", "purpose"],
        [[row["topic"], row["cleanup"], row["retention"] or "forever", row["purpose"]] for row in rows],
    )


@app.command("apply")
def apply_(
    context: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and change nothing.")] = False,
    json: Json = False,
) -> None:
    """Create the topics that are missing and set the properties that differ.

    The partition count of a topic that holds data is never changed: its keys would move.
    """
    session = begin(context)
    cluster = _cluster(session)
    changes = plan(cluster, catalogue(datasets=session.settings.datasets.folder), session.settings.topics)
    if not dry_run:
        apply(cluster, changes)
    if json:
        print_json({"applied": not dry_run, "changes": [_change(change) for change in changes]})
        return
    for change in changes:
        for line in _lines(change):
            typer.echo(line)
    verb = "to make" if dry_run else "made"
    typer.echo(f"{len(changes)} {'change' if len(changes) == 1 else 'changes'} {verb} on {cluster.bootstrap}.")


@app.command("describe")
def describe_(context: typer.Context, json: Json = False) -> None:
    """Show the topics as they are: partitions, replicas, messages, properties. Exit code 1 if one is missing."""
    session = begin(context)
    topics = catalogue(datasets=session.settings.datasets.folder)
    found = describe(_cluster(session), topics)
    wanted = [topic.name for topic in topics]
    absent = [session.settings.kafka.prefix + name for name in wanted if name not in found]
    if json:
        print_json({"topics": [_state(found[name]) for name in wanted if name in found], "missing": absent})
    else:
        columns = ["topic", "partitions", "replicas", "messages", "cleanup", "retention.ms", "max.message.bytes"]
        keys = ("cleanup.policy", "retention.ms", "max.message.bytes")
        rows = [
            [state.name, state.partitions, state.replication, state.messages, *(state.properties[key] for key in keys)]
            for state in (found[name] for name in wanted if name in found)
        ]
        if rows:
            print_table(columns, rows)
        for name in absent:
            typer.echo(f"{name} is missing; create it with: headrace topics apply")
    raise typer.Exit(1 if absent else 0)


@app.command()
def picture(
    file: Annotated[Path, typer.Argument(help="The SVG file to write; - is standard output.")],
) -> None:
    """Draw who writes and who reads which topic."""
    from headrace.topology import draw

    svg = draw(families())
    if str(file) == "-":
        typer.echo(svg, nl=False)
    else:
        file.write_text(svg, "utf-8")


def _cluster(session: Session) -> Cluster:
    """The Kafka as it is: on the embedded one, too, these commands create nothing that they do not show."""
    if session.settings.kafka.bootstrap is not None:
        return session.cluster()
    broker = embedded_broker(session.settings)
    broker.start()
    return Cluster(session.settings.kafka.model_copy(update={"bootstrap": broker.bootstrap}))


def _lines(change: Change) -> list[str]:
    if change.create:
        count = change.partitions[1] if change.partitions else 0
        properties = ", ".join(f"{key}={value}" for key, (_, value) in change.properties.items())
        return [f"create {change.topic}: {count} partitions, {properties}"]
    lines = [f"alter {change.topic}: {key} {old} -> {new}" for key, (old, new) in change.properties.items()]
    if change.partitions:
        lines.append(f"widen {change.topic}: partitions {change.partitions[0]} -> {change.partitions[1]}")
    return lines


def _change(change: Change) -> dict[str, Any]:
    return {
        "topic": change.topic,
        "action": "create" if change.create else "alter",
        "partitions": change.partitions[1] if change.partitions else None,
        "properties": {key: {"from": old, "to": new} for key, (old, new) in change.properties.items()},
    }


def _state(state: TopicState) -> dict[str, Any]:
    shown = ("cleanup.policy", "retention.ms", "retention.bytes", "max.message.bytes", "message.timestamp.type")
    return {
        "topic": state.name,
        "partitions": state.partitions,
        "replicas": state.replication,
        "messages": state.messages,
        "properties": {key: state.properties.get(key) for key in (*shown, "min.insync.replicas")},
    }
