"""Whether a file that was fetched may be sent on: archives are read to their checksums, headers compared."""

from __future__ import annotations

from pathlib import Path

from headrace.datasets.catalogue import Dataset
from headrace.datasets.content import GZIP, ZIP, members
from headrace.datasets.rows import Rows

READ_BYTES = 1024 * 1024


def check_file(place: Path, dataset: Dataset | None) -> None:
    """See that an archive is whole, and that the header is that of the dataset, if one is named.

    Raises a RefusedFile of `headrace.datasets.errors`.
    """
    with place.open("rb") as file:
        start = file.read(4)
        if start in ZIP or start[:2] == GZIP:
            for member in members(file):
                while member.read(READ_BYTES):
                    pass
        if dataset is not None:
            next(Rows(dataset.declaration).read(file), None)
