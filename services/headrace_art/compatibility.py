"""The ART student loader under its old name: with its options.

Source: reference art 1.3.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from headrace.cli import main


def art_student_loader(arguments: Sequence[str] | None = None) -> None:
    """Load a dump: `art_student_loader [OPTIONS]`, now `headrace art load [OPTIONS]`."""
    main(["art", "load", *(sys.argv[1:] if arguments is None else arguments)])
