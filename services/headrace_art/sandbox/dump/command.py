"""`headrace sandbox students`."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer

from headrace.cli.output import print_json
from headrace.config.validation import validate
from headrace_art.sandbox.dump.plan import Plan
from headrace_art.sandbox.dump.writing import Night


def _share(text: str) -> float:
    """A share as people write it: `1%` or `0.01`."""
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no share, such as 1% or 0.01") from error


def students(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Gets the folders Students and Schools.")],
    rows: Annotated[int, typer.Option(help="Students of the first night.", min=0)],
    seed: Annotated[int, typer.Option(help="Equal seeds make equal files.")] = 0,
    districts: Annotated[int, typer.Option(help="Districts.")] = 200,
    schools: Annotated[int, typer.Option(help="Schools, beside the rows of the districts.")] = 2_000,
    date: Annotated[str | None, typer.Option(metavar="YYYYMMDD", help="Day in the names; default: today.")] = None,
    changed: Annotated[str, typer.Option(metavar="SHARE", help="Students that differ from the first night.")] = "0",
    removed: Annotated[int, typer.Option(help="Students of the first night to leave out.")] = 0,
    added: Annotated[int, typer.Option(help="Students that the first night did not have.")] = 0,
    missing_schools: Annotated[int, typer.Option(help="Schools that the schools file lacks.")] = 0,
    renamed_schools: Annotated[int, typer.Option(help="Schools with another name.")] = 0,
    moved_schools: Annotated[int, typer.Option(help="Schools with the same id and another district.")] = 0,
    duplicates: Annotated[
        str, typer.Option(metavar="SHARE", help="Students that come twice, each second time with a change.")
    ] = "0.1%",
    unknown_schools: Annotated[str, typer.Option(metavar="SHARE", help="Students of schools nobody knows.")] = "0.1%",
    broken: Annotated[str, typer.Option(metavar="SHARE", help="Students that break one of ART's rules.")] = "0.1%",
    rare: Annotated[str, typer.Option(metavar="SHARE", help="Students with long names and odd grades.")] = "1%",
    members: Annotated[int, typer.Option(help="Members of the students' zip, each with a header.", min=1)] = 1,
    plain: Annotated[bool, typer.Option("--plain", help="Write CSV, not zip.")] = False,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what the files hold, with the lines that are broken.")
    ] = None,
) -> None:
    """Make the nightly files of a made-up state: Latin-1, caret-delimited, as reproducible as its seed.

    The second night of a state is the same command with --changed, --removed or --added.
    """
    values = {
        "rows": rows,
        "seed": seed,
        "districts": districts,
        "schools": schools,
        "changed": _share(changed),
        "removed": removed,
        "added": added,
        "missing_schools": missing_schools,
        "renamed_schools": renamed_schools,
        "moved_schools": moved_schools,
        "duplicates": _share(duplicates),
        "unknown_schools": _share(unknown_schools),
        "broken": _share(broken),
        "rare": _share(rare),
    }
    plan = validate(Plan, values, dict.fromkeys(values, "command line"), "students")
    day = date or f"{datetime.datetime.now().astimezone():%Y%m%d}"
    if plain and members > 1:
        raise typer.BadParameter("plain CSV has no members", param_hint="--members")
    summary = Night(folder, day, plan, members=members, plain=plain).write()
    if truth is not None:
        truth.write_bytes(orjson.dumps(summary.as_json(lines=True)))
    print_json(summary.as_json(lines=False))
