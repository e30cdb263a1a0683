"""`headrace topics acl`: what each service must be allowed on a Kafka with access lists."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from headrace.cli.output import print_json
from headrace.cli.runtime import Session, begin
from headrace.config import ServiceSettings, StageSettings
from headrace.errors import ConfigError
from headrace.families import StageEntry, catalogue, stage_named, stages
from headrace.kafka import acls
from headrace.kafka.access import DUTIES, Access, of_duty, of_service
from headrace.kafka.clients import Cluster


class NoKafkaNamed(ConfigError):
    """Access lists are made on a Kafka of your own; the embedded one has none. Set kafka.bootstrap, or --bootstrap."""

    code = "no-kafka-named"


class OnePrincipal(ConfigError):
    """--principal names one user, and there are {count} services and tasks. Choose one with --service or --task."""

    code = "one-principal"


@dataclass(frozen=True)
class _Grant:
    name: str
    principal: str
    accesses: list[Access]


def acl(
    context: typer.Context,
    service: Annotated[
        list[str] | None,
        typer.Option(
            "--service", metavar="SERVICE", help="Only this service: assembler, or assembler.site_b; repeatable."
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="TASK", help=f"Instead, what people do: {', '.join(sorted(DUTIES))}."),
    ] = None,
    principal: Annotated[
        str | None, typer.Option(help="Who it is for, such as User:lab; default: User: and the service's name.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make those that are missing on this Kafka.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show which are missing on this Kafka.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print what each service must be allowed on a Kafka with access lists, as commands of Kafka's own tool.

    It follows from the topics that a service reads and writes, and from its sinks where the settings name them. Nothing
    is taken away.
    """
    session = begin(context)
    grants = list(_grants(session, service, task, principal))
    if principal is not None and len(grants) != 1:
        raise OnePrincipal(count=len(grants))
    if not apply and not dry_run:
        _print(session, grants, json)
        return
    if session.settings.kafka.bootstrap is None:
        raise NoKafkaNamed
    cluster = session.cluster()
    _make(cluster, grants, json, make=apply and not dry_run)


def _grants(
    session: Session, services: list[str] | None, tasks: list[str] | None, principal: str | None
) -> Iterator[_Grant]:
    prefix = session.settings.kafka.prefix
    topics = catalogue(datasets=session.settings.datasets.folder)
    for name in services or (() if tasks else stages()):
        entry = stage_named(name)
        configured = list(_configured(session, entry, name))
        in_group = issubclass(entry.load_settings(), StageSettings)
        sinks = {each.sink for each in configured if isinstance(each, StageSettings)} if in_group else None
        foreign = {getattr(each, entry.foreign) for each in configured} if entry.foreign else ()
        yield _Grant(name, _user(principal or entry.name), of_service(entry, topics, prefix, sinks, foreign))
    for name in tasks or ():
        yield _Grant(name, _user(principal or name), of_duty(name, prefix))


def _configured(session: Session, entry: StageEntry, section: str) -> Iterator[ServiceSettings]:
    """The settings of a service and of its instances, or of one instance; without those that are incomplete."""
    model = entry.load_settings()
    instances = [f"{entry.name}.{each}" for each in session.sources.instances(entry.name, model)]
    for each in [section] if "." in section else [section, *instances]:
        if session.sources.has_section(each):
            with suppress(ConfigError):
                yield session.sources.section(each, model).values


def _user(name: str) -> str:
    return name if ":" in name else f"User:{name}"


def _print(session: Session, grants: list[_Grant], json: bool) -> None:
    bootstrap = session.settings.kafka.bootstrap or "HOST:PORT"
    if json:
        print_json([_plain(grant) for grant in grants])
        return
    for number, grant in enumerate(grants):
        typer.echo(f"{chr(10) if number else ''}# {grant.name}")
        for line in acls.commands(grant.principal, grant.accesses, bootstrap):
            typer.echo(line)


def _make(cluster: Cluster, grants: list[_Grant], json: bool, *, make: bool) -> None:
    absent = []
    for grant in grants:
        lacking = [
            access for access in grant.accesses if acls.missing(cluster, acls.bindings(grant.principal, [access]))
        ]
        absent.append(_Grant(grant.name, grant.principal, lacking))
        if make:
            acls.make(cluster, acls.bindings(grant.principal, lacking))
    if json:
        print_json({"applied": make, "grants": [_plain(grant) for grant in absent]})
        return
    count = 0
    for grant in absent:
        for access in grant.accesses:
            count += 1
            name = f"{access.name}*" if access.prefixed else access.name
            typer.echo(f"allow {grant.principal} {', '.join(access.operations)} on {access.kind} {name}")
    verb = "made" if make else "to make"
    typer.echo(f"{count} {'entry' if count == 1 else 'entries'} {verb} on {cluster.bootstrap}.")


def _plain(grant: _Grant) -> dict[str, Any]:
    return {
        "for": grant.name,
        "principal": grant.principal,
        "allow": [
            {
                "kind": access.kind,
                "name": access.name,
                "pattern": "prefixed" if access.prefixed else "literal",
                "operations": list(access.operations),
            }
            for access in grant.accesses
        ],
    }
