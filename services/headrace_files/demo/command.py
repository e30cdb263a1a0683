"""`headrace demo`: an instrument's folder, Kafka, a second site and an archive, with an accident on the way."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from headrace.errors import ConfigError, FatalError
from headrace_files.demo.counting import Counter, Tally
from headrace_files.demo.material import Instrument, plan
from headrace_files.demo.stageset import BUCKET, StageSet

MARKER = ".headrace-demo"
GIVE_UP_SECONDS = 110.0
PLAIN_EVERY = 3.0


class NotOurFolder(ConfigError):
    """The folder {folder} is not empty, and no earlier demonstration made it. Name another one with --folder."""

    code = "not-our-folder"


class NotArrived(FatalError):
    """After {seconds} s some files have not arrived; look at {log}, and at: headrace --config {settings} verify."""

    code = "not-arrived"


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything is put; an earlier demonstration is replaced.")] = Path(
        "demo"
    ),
    seconds: Annotated[float, typer.Option(help="Time over which the instrument's files arrive.")] = 20.0,
) -> None:
    """Watch the main job: files of an instrument go through Kafka to another site and to an object store.

    About 300 MB in 500 files arrive in a folder; one of two assemblers is killed on the way; at the end every file is
    compared, and the books must balance.
    """
    console = Console()
    _prepare(folder)
    files = plan()
    with closing(StageSet(folder)) as scene:
        began = time.monotonic()
        cluster = scene.start()
        console.print(
            f"Apache Kafka at {scene.broker.bootstrap}, S3 server ({scene.s3.kind}) at {scene.s3.endpoint},"
            f" up after {time.monotonic() - began:.1f} s"
        )
        scene.start_services()
        instrument = Instrument(scene.instrument, files, seconds)
        with closing(Counter(cluster)) as counter:
            instrument.start()
            _watch(console, scene, instrument, counter, len(files))
            instrument.stop()
        console.print("\nAll files are there. Reading both destinations again:\n")
        code = scene.verify()
        differing = _differences(scene.instrument, scene.site)
        console.print(
            f"\nFolders compared byte by byte: {len(files) - len(differing)} of {len(files)} files equal"
            + (f", NOT equal: {differing[:5]}" if differing else "")
        )
        _where(console, scene)
    raise typer.Exit(code or (1 if differing else 0))


def _prepare(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        if not (folder / MARKER).exists():
            raise NotOurFolder(folder=folder)
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def _watch(console: Console, scene: StageSet, instrument: Instrument, counter: Counter, expected: int) -> None:
    began = time.monotonic()
    killed: int | None = None
    next_line = 0.0
    live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
    if live is not None:
        live.start()
    try:
        while True:
            scene.check()
            tallies = (counter.sent, counter.tally("assembler"), counter.tally("archiver"))
            if killed is None and tallies[1].size > 40_000_000:
                killed = scene.kill_one_assembler()
                if killed is not None:
                    console.print(f"assembler (process {killed}) was killed; nothing may be lost")
            elapsed = time.monotonic() - began
            if live is not None:
                live.update(_table(instrument, tallies, elapsed, killed))
            elif elapsed >= next_line:
                next_line = elapsed + PLAIN_EVERY
                console.print(_line(instrument, tallies, elapsed), soft_wrap=True)
            if instrument.finished and all(tally.files >= expected for tally in tallies):
                if live is None:
                    console.print(_line(instrument, tallies, elapsed), soft_wrap=True)
                return
            if elapsed > GIVE_UP_SECONDS:
                raise NotArrived(seconds=GIVE_UP_SECONDS, log=scene.log, settings=scene.settings_file)
            time.sleep(0.2)
    finally:
        if live is not None:
            live.stop()


def _table(instrument: Instrument, tallies: tuple[Tally, Tally, Tally], elapsed: float, killed: int | None) -> Table:
    table = Table(title=f"Headrace, {elapsed:.0f} s", caption=f"assembler {killed} was killed" if killed else None)
    for column in ("", "files", "MB", "MB/s"):
        table.add_column(column, justify="left" if not column else "right")
    rows = (("made by the instrument", instrument.made, instrument.bytes),)
    names = ("on the log", "rebuilt at the site", "in the archive")
    for name, files, size in (
        *rows,
        *((name, tally.files, tally.size) for name, tally in zip(names, tallies, strict=True)),
    ):
        table.add_row(name, str(files), f"{size / 1e6:.1f}", f"{size / 1e6 / max(elapsed, 0.1):.1f}")
    return table


def _line(instrument: Instrument, tallies: tuple[Tally, Tally, Tally], elapsed: float) -> str:
    sent, rebuilt, archived = (f"{tally.files} ({tally.size / 1e6:.0f} MB)" for tally in tallies)
    return (
        f"{elapsed:5.1f} s  made {instrument.made} ({instrument.bytes / 1e6:.0f} MB)  on the log {sent}"
        f"  rebuilt {rebuilt}  archived {archived}"
    )


def _differences(left: Path, right: Path) -> list[str]:
    """Relative paths of files that are not in both folders with equal content."""

    def digests(root: Path) -> dict[bytes, str]:
        found = {}
        for place in root.rglob("*"):
            relative = place.relative_to(root)
            if place.is_file() and relative.parts[0] != ".headrace":
                with place.open("rb") as content:
                    found[os.fsencode(relative)] = hashlib.file_digest(content, "sha256").hexdigest()
        return found

    ours, theirs = digests(left), digests(right)
    return [
        path.decode("utf-8", "backslashreplace")
        for path in sorted(ours.keys() | theirs.keys())
        if ours.get(path) != theirs.get(path)
    ]


def _where(console: Console, scene: StageSet) -> None:
    console.print("\nWhere to look:")
    for what, place in (
        ("the instrument's folder", scene.instrument),
        ("the other site's folder", scene.site),
        ("the archive's objects", scene.s3.objects / BUCKET),
        ("the settings", scene.settings_file),
        ("what the services said", scene.log),
    ):
        console.print(f"  {what:24} {place}", soft_wrap=True)
