"""The part of `headrace demo` with files: an instrument's folder, a second site and an archive, with an accident."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from headrace.demonstration import Scene
from headrace.errors import FatalError
from headrace_files.demo.counting import Counter, Tally
from headrace_files.demo.material import Instrument, plan
from headrace_files.demo.stageset import BUCKET, StageSet

GIVE_UP_SECONDS = 110.0
PLAIN_EVERY = 3.0


class NotArrived(FatalError):
    """After {seconds} s some files have not arrived; look at {log}, and at: headrace --config {settings} verify."""

    code = "not-arrived"


def demo(scene: Scene) -> int:
    """Files of an instrument go through Kafka to another site and to an object store; whether all is well, as a code.

    About 300 MB in 500 files arrive in a folder; one of two assemblers is killed on the way; at the end every file is
    compared, and the books must balance.

    Raises NotArrived, ServicesEnded.
    """
    console = scene.console
    files = plan()
    with closing(StageSet(scene)) as stage:
        cluster = stage.start()
        console.print(f"S3 server ({stage.s3.kind}) at {stage.s3.endpoint}")
        stage.start_services()
        instrument = Instrument(stage.instrument, files, scene.seconds)
        with closing(Counter(cluster)) as counter:
            instrument.start()
            _watch(console, stage, instrument, counter, len(files))
            instrument.stop()
        console.print("\nAll files are there. Reading both destinations again:\n")
        code = stage.verify()
        differing = _differences(stage.instrument, stage.site)
        console.print(
            f"\nFolders compared byte by byte: {len(files) - len(differing)} of {len(files)} files equal"
            + (f", NOT equal: {differing[:5]}" if differing else "")
        )
        _where(console, stage)
    return code or (1 if differing else 0)


def _watch(console: Console, stage: StageSet, instrument: Instrument, counter: Counter, expected: int) -> None:
    began = time.monotonic()
    killed: int | None = None
    next_line = 0.0
    live = Live(console=console, refresh_per_second=4, transient=False) if console.is_terminal else None
    if live is not None:
        live.start()
    try:
        while True:
            stage.check()
            tallies = (counter.sent, counter.tally("assembler"), counter.tally("archiver"))
            if killed is None and tallies[1].size > 40_000_000:
                killed = stage.kill_one_assembler()
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
                raise NotArrived(seconds=GIVE_UP_SECONDS, log=stage.log, settings=stage.settings_file)
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


def _where(console: Console, stage: StageSet) -> None:
    console.print("\nWhere to look:")
    for what, place in (
        ("the instrument's folder", stage.instrument),
        ("the other site's folder", stage.site),
        ("the archive's objects", stage.s3.objects / BUCKET),
        ("the settings", stage.settings_file),
        ("what the services said", stage.log),
    ):
        console.print(f"  {what:24} {place}", soft_wrap=True)
