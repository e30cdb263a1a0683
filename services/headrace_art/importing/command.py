"""`headrace art import-settings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.families import SectionEntry, StageEntry, sections, stages
from headrace_art.importing.converting import Setting, convert
from headrace_art.importing.reading import read
from headrace_art.importing.writing import WouldOverwrite, write


def import_settings(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="settings_secret.py, or settings_default.py.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the settings there; else they are printed.")
    ] = None,
    secrets: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for passwords, each in a file that only you can read.")
    ] = Path("secrets"),
) -> None:
    """Convert the settings of the old ART student loader. They are read as data and never executed."""
    old = read(file)
    converted = convert(old.values)
    if out is not None and out.exists():
        raise WouldOverwrite(path=out)
    text = write(converted, secrets, _known)
    if out is None:
        typer.echo(text, nl=False)
    else:
        out.write_text(text, encoding="utf-8")
        typer.echo(f"written: {out}", err=True)
    for note in converted.notes:
        typer.echo(note, err=True)
    for line in old.skipped:
        typer.echo(f"line {line} of {file} is no plain assignment and was left out", err=True)


def _known(setting: Setting) -> bool:
    """Whether this installation has such a setting."""
    entries: dict[str, SectionEntry | StageEntry] = {**sections(), **stages()}
    entry = entries.get(setting.section)
    return entry is not None and setting.name in entry.load_settings().model_fields
