"""`headrace config`: what is set, where it came from, and whether it works."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, SecretStr

from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import Session, begin
from headrace.config import Section, Settings, format_duration
from headrace.config.errors import MissingSetting
from headrace.config.validation import section_models
from headrace.families import SectionEntry, StageEntry, sections, stage_named, stages
from headrace.observe.log import hide

app = typer.Typer(no_args_is_help=True, help="Show and check the settings.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    context: typer.Context,
    section: Annotated[str | None, typer.Argument(help="Only this section.")] = None,
    json: Json = False,
) -> None:
    """Show every setting that is in force, and where it was set. Secrets are hidden.

    A service is shown if anything is said of it: in headrace.toml, in the environment, or under [up].
    """
    session = begin(context)
    rows = [row for row in settings_in_force(session) if section is None or row[0].startswith(f"{section}.")]
    if json:
        print_json({name: {"value": _plain(value), "from": where} for name, value, where in rows})
        return
    print_table(["setting", "value", "from"], [[name, written(value), where] for name, value, where in rows])


@app.command()
def check(context: typer.Context, json: Json = False) -> None:
    """Connect to everything that is configured, and change nothing. Exit code 1 if something does not work."""
    from headrace.cli.checks import checks

    session = begin(context)
    results = checks(session, configured_services(session))
    if json:
        print_json([{"check": each.what, "well": each.well, "detail": each.detail} for each in results])
    else:
        for each in results:
            typer.echo(f"{'ok' if each.well else 'FAILED':<6}  {each.what}: {each.detail}")
    raise typer.Exit(0 if all(each.well for each in results) else 1)


def configured_services(session: Session) -> Iterator[tuple[str, StageEntry | SectionEntry]]:
    """The services of which anything is said, instances included, and the sections that they share."""
    for shared in sections().values():
        if session.sources.has_section(shared.name):
            yield shared.name, shared
    wanted = set(session.settings.up.services)
    for entry in stages().values():
        model = entry.load_settings()
        instances = [f"{entry.name}.{each}" for each in session.sources.instances(entry.name, model)]
        if entry.name in wanted or (session.sources.has_section(entry.name) and not instances):
            yield entry.name, entry
        for name in instances:
            yield name, entry


def model_of(section: str) -> type[Section]:
    """The model of a section of the settings: the spine's, a shared one, or a service's, instances included.

    Raises UnknownService.
    """
    if section in (own := section_models(Settings)):
        return own[section]
    if section in (shared := sections()):
        return shared[section].load_settings()
    return stage_named(section).load_settings()


def settings_in_force(session: Session) -> Iterator[tuple[str, Any, str]]:
    """Every setting with its full name, value and origin."""
    for name, value in session.settings:
        if isinstance(value, Section):
            for key, part in value:
                yield f"{name}.{key}", part, session.origins.get(f"{name}.{key}", "default")
        else:
            yield name, value, session.origins.get(name, "default")
    for name, entry in configured_services(session):
        try:
            model: type[Section] = entry.load_settings()
            found = session.sources.section(name, model)
        except MissingSetting as missing:
            yield str(missing.details["setting"]), "", "not set, and needed"
            continue
        for key, value in found.values:
            yield f"{name}.{key}", value, found.origins.get(key, "default")


def _plain(value: Any, name: str = "") -> Any:
    """A value for JSON, without secrets."""
    if isinstance(value, SecretStr):
        return hide(value)
    if isinstance(value, timedelta):
        return format_duration(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, BaseModel):
        return {key: _plain(part, key) for key, part in value}
    if isinstance(value, dict):
        return {key: _plain(part, key) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return hide(value, name) if isinstance(value, str) else value


def written(value: Any) -> str:
    """A setting's value as people read it; secrets are hidden."""
    plain = _plain(value)
    return "" if plain is None else str(plain)
