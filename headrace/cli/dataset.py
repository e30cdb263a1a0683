"""`headrace dataset`: which datasets are declared, and what would become of a file. Needs no Kafka."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated, Any

import typer

from headrace.cli.output import print_json, print_table
from headrace.cli.runtime import begin
from headrace.codec.records import Record
from headrace.config import format_duration
from headrace.datasets.catalogue import Dataset, Datasets
from headrace.datasets.errors import RefusedFile
from headrace.datasets.rows import BadRow, Row
from headrace.datasets.survey import Survey, checked, survey
from headrace.errors import ConfigError

app = typer.Typer(no_args_is_help=True, help="List, show and try out the datasets that are declared.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_NO_FILE = bytes(16)


class NoSuchFile(ConfigError):
    """The file {path} cannot be read: {problem}."""

    code = "no-such-file"


@app.command("list")
def list_(context: typer.Context, json: Json = False) -> None:
    """List all datasets: those that are shipped, and those in the folder datasets.folder."""
    found = [_summary(dataset) for dataset in _datasets(context).values()]
    if json:
        print_json(found)
        return
    columns = ("dataset", "columns", "kept", "personal", "purpose")
    print_table(
        columns,
        [
            (each["dataset"], len(each["columns"]), each["retention"], "yes" if each["personal"] else "no",
             each["purpose"])
            for each in found
        ],
    )  # fmt: skip


@app.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="DATASET", help="Its name.")],
    json: Json = False,
) -> None:
    """Show one dataset: how its files are read, what its records are, and their Avro schema (with --json)."""
    dataset = _datasets(context).named(name)
    summary = _summary(dataset)
    if json:
        print_json(summary | {"schema": dataset.schema, "fingerprint": dataset.fingerprint.hex()})
        return
    declaration, rules = dataset.declaration, dataset.declaration.rules
    typer.echo(f"{dataset.name}: {declaration.purpose}")
    typer.echo(f"declared in {dataset.declared_in}")
    quotes = "without quotes" if declaration.quoting == "none" else "with quotes"
    typer.echo(f"{declaration.encoding}, fields between {declaration.delimiter!r}, {quotes}")
    kept = f"kept {summary['retention']}" + (", personal data" if declaration.personal else "")
    typer.echo(f"records on {summary['topic']}, keyed by {' and '.join(declaration.key)}, {kept}")
    typer.echo(f"a file is refused above {rules.bad_share:.0%} bad rows, if they are more than {rules.bad_rows}")
    if rules.shrink is not None:
        typer.echo(f"a file is refused that has {rules.shrink:.0%} fewer rows than the last")
    typer.echo()
    rows = [
        (column.name, column.field, column.type, column.empty, "optional" if column.optional else "", column.doc or "")
        for column in declaration.columns
    ]
    print_table(("column", "field", "type", "if empty", "", "meaning"), rows)


@app.command()
def check(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Plain, gzip or zip.")],
    dataset: Annotated[str, typer.Option("--dataset", help="The dataset that it is to be read as.")],
    examples: Annotated[int, typer.Option(min=0, help="Show this many records, and bad rows of each reason.")] = 3,
    unmask: Annotated[bool, typer.Option("--unmask", help="Show values even if they are personal data.")] = False,
    json: Json = False,
) -> None:
    """Show what would be read from a file, and why rows would be refused; nothing is sent anywhere.

    Exit code 0: all rows are good; 3: some would be dead letters; 1: the whole file would be refused.
    """
    session = begin(context)
    found = Datasets(session.settings.datasets.folder).named(dataset)
    try:
        handle = file.open("rb")
    except OSError as error:
        raise NoSuchFile(path=file, problem=error.strerror) from error
    with handle:
        refusal: RefusedFile | None = None
        result = Survey()
        try:
            result = survey(found, handle)
        except RefusedFile as error:
            refusal = error
        masked = found.declaration.personal and not unmask
        records = [] if refusal else [_fields(found, row, masked) for row in _first(found, handle, examples)]
        bad = [] if refusal else _bad(found, handle, examples)
    code = 1 if refusal is not None else 3 if bad else 0
    if json:
        print_json(_report(found, result, refusal, records, bad, code))
    else:
        _print(found, result, refusal, records, bad)
    raise typer.Exit(code)


def _datasets(context: typer.Context) -> Datasets:
    return Datasets(begin(context).settings.datasets.folder)


def _summary(dataset: Dataset) -> dict[str, Any]:
    declaration = dataset.declaration
    return {
        "dataset": dataset.name,
        "purpose": declaration.purpose,
        "topic": dataset.topic.name,
        "key": declaration.key,
        "retention": format_duration(declaration.retention),
        "personal": declaration.personal,
        "encoding": declaration.encoding,
        "delimiter": declaration.delimiter,
        "quoting": declaration.quoting,
        "declared_in": str(dataset.declared_in),
        "columns": [column.model_dump() for column in declaration.columns],
        "rules": declaration.rules.model_dump(),
    }


def _first(dataset: Dataset, handle: Any, count: int) -> list[Row]:
    rows = (row for row in checked(dataset, handle) if isinstance(row, Row))
    return list(itertools.islice(rows, count))


def _bad(dataset: Dataset, handle: Any, count: int) -> list[dict[str, Any]]:
    seen: dict[str, int] = {}
    found = []
    for row in checked(dataset, handle):
        if isinstance(row, BadRow):
            seen[row.error.code] = seen.get(row.error.code, 0) + 1
            if seen[row.error.code] <= max(count, 1):
                found.append({"line": row.line, "code": row.error.code, "reason": str(row.error)})
    return found


def _fields(dataset: Dataset, row: Row, masked: bool) -> dict[str, Any]:
    """A record as a reader would get it."""
    body = dataset.encoder.body(row.values, row.line, ascii_only=row.plain)
    record = Record(job=None, file=_NO_FILE, line=row.line, body=body, schema=dataset.fingerprint)
    fields = record.fields(dataset.readers)
    if masked:
        fields = {name: value if value in ("", None) else "…" for name, value in fields.items()}
    return {"line": row.line, "key": "…" if masked else dataset.encoder.key(row.values, row.line), "fields": fields}


def _report(
    dataset: Dataset,
    found: Survey,
    refusal: RefusedFile | None,
    records: list[dict[str, Any]],
    bad: list[dict[str, Any]],
    code: int,
) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "refused": None if refusal is None else {"code": refusal.code, "reason": str(refusal)},
        "members": found.members,
        "lines": found.lines,
        "records": found.good,
        "bad_rows": dict(found.bad),
        "ignored_columns": list(found.extra),
        "examples": records,
        "bad_examples": bad,
        "exit_code": code,
    }


def _print(
    dataset: Dataset,
    found: Survey,
    refusal: RefusedFile | None,
    records: list[dict[str, Any]],
    bad: list[dict[str, Any]],
) -> None:
    if refusal is not None:
        typer.echo(f"refused as a whole ({refusal.code}): {refusal}")
        return
    several = f" in {found.members} members" if found.members > 1 else ""
    typer.echo(f"{found.lines:,} lines{several}: {found.good:,} records, {found.bad.total():,} rows refused")
    if found.extra:
        typer.echo(f"columns that are not declared, and so not published: {', '.join(found.extra)}")
    for record in records:
        typer.echo(f"\nline {record['line']}, key {record['key']}")
        for name, value in record["fields"].items():
            typer.echo(f"  {name}: {value!r}" if isinstance(value, str) else f"  {name}: {value}")
    if bad:
        typer.echo()
        print_table(("rows", "reason"), [(count, code) for code, count in found.bad.most_common()])
        typer.echo()
        for row in bad:
            typer.echo(row["reason"])
    if records and dataset.declaration.personal:
        typer.echo("\nValues are personal data and not shown; --unmask shows them.")
