"""What `headrace config check` looks at for the services of this family."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.checks import Check, attempt, readable_folder, writable_folder

if TYPE_CHECKING:
    from headrace_files.archiver.settings import ArchiverSettings
    from headrace_files.assembler.settings import AssemblerSettings
    from headrace_files.csv_fanout.settings import CsvFanoutSettings
    from headrace_files.directory_source.settings import DirectorySourceSettings
    from headrace_files.sftp_source.settings import SftpSourceSettings


def directory_source(settings: DirectorySourceSettings) -> Iterator[Check]:
    """The folder that is watched must be there."""
    yield readable_folder("root", settings.root)


def assembler(settings: AssemblerSettings) -> Iterator[Check]:
    """The tree that files are rebuilt in must be writable."""
    yield writable_folder("root", settings.root)


def sftp_source(settings: SftpSourceSettings) -> Iterator[Check]:
    """The server must show its key and let us in."""
    from headrace_files.sftp_source.connecting import connected  # loads the SSH client

    def look() -> None:
        with connected(settings):
            pass

    yield attempt("server", look, f"{settings.user}@{settings.host} lets us in")


def csv_fanout(settings: CsvFanoutSettings) -> Iterator[Check]:
    """The spool must be writable."""
    yield writable_folder("spool", settings.spool or Path(tempfile.gettempdir()))


def archiver(settings: ArchiverSettings) -> Iterator[Check]:
    """The bucket must be there, and take our credentials."""
    from headrace.objects.store import ObjectStore  # loads two object store clients

    store = ObjectStore(settings)
    yield attempt("bucket", store.check, f"{settings.bucket} at {store.endpoint} answers")
