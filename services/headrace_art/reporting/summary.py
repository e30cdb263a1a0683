"""The report of a load, drawn up from its books: counts that add up, and nothing of any person. Pure.

Rows = delivered + unchanged + dead-lettered + held + failed + open, for every file. Source: reference art 4.2 R13.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headrace.events import FileEvent, Outcome
from headrace.jobs.evidence import Evidence, Place

OPEN = "open"
"""Lines that nothing was said of yet."""
OUTCOMES: tuple[str, ...] = ("delivered", "unchanged", "dead_lettered", "held", "failed", OPEN)
COLUMNS = ("job", "file", "dataset", "outcome", "code", "rows")
BATCH_COLUMNS = ("job", "file", "batch_status_url", "delivered", "dead_lettered")


@dataclass(frozen=True, slots=True)
class FileSummary:
    """What became of one file.

    Parameters:
        rows: lines without headers, as its fan-out counted them; None before it has.
        partial: whether only a part of the rows was asked for.
        refused: why nothing of it was read.
        counts: rows by outcome and code.
        batches: that its rows went to ART in, by the URL of their status.
    """

    name: str
    file: bytes
    dataset: str
    size: int | None
    alg: str | None
    hash: bytes | None
    rows: int | None
    partial: bool = False
    refused: str | None = None
    counts: Mapping[tuple[str, str | None], int] = field(default_factory=dict)
    batches: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def sums(self) -> dict[str, int]:
        """Rows by outcome."""
        found = dict.fromkeys(OUTCOMES, 0)
        for (outcome, _), count in self.counts.items():
            found[outcome] += count
        return found

    @property
    def adds_up(self) -> bool:
        """Whether every row is accounted for, once."""
        return self.rows == sum(self.counts.values()) and not self.sums[OPEN]

    def as_json(self) -> dict[str, Any]:
        """As plain values."""
        codes: dict[str, dict[str, int]] = {}
        for (outcome, code), count in sorted(self.counts.items(), key=str):
            if code is not None:
                codes.setdefault(outcome, {})[code] = count
        return {
            "file": self.name, "id": self.file.hex(), "dataset": self.dataset, "bytes": self.size,
            "alg": self.alg, "hash": None if self.hash is None else self.hash.hex(), "rows": self.rows,
            "partial": self.partial, "refused": self.refused, **self.sums, "codes": codes, "adds_up": self.adds_up,
            "batches": [{"status_url": url, **_of_batch(counts)} for url, counts in self.batches.items()],
        }  # fmt: skip


def summaries(evidence: Evidence, readers: Mapping[str, str]) -> list[FileSummary]:
    """Of each announced file of a job.

    Parameters:
        readers: by dataset, the group that must account for each record.
    """
    lines = evidence.books.lines
    found = []
    for file, event in evidence.versions.items():
        dataset = event.dataset
        if event.state != "announced" or dataset is None or dataset not in readers:
            continue
        fanned = lines.fanned.get(file)
        if fanned is None:
            refused = next((code for (of, _), code in evidence.codes.items() if of == file), None)
            found.append(_file(event, dataset, None, False, refused, {}, {}))
            continue
        counts: dict[tuple[str, str | None], int] = {
            (outcome, code): count for (outcome, code), count in fanned.counts().items() if outcome != "delivered"
        }
        records = lines.records(file)
        said = lines.said.get((readers[dataset], file))
        left = records
        if said is not None:
            for (kind, code), mine in said.sets.items():
                number = len(mine & records)
                if number:
                    key: tuple[Outcome, str | None] = (kind, code)
                    counts[key] = counts.get(key, 0) + number
                left = left - mine
        if left:
            outcome_left = "failed" if said is not None and said.given_up else OPEN
            counts[outcome_left, None] = counts.get((outcome_left, None), 0) + len(left)
        rows = fanned.counts().total()
        batches = _batches(evidence, Place(readers[dataset], file))
        found.append(_file(event, dataset, rows, fanned.where is None, None, counts, batches))
    return sorted(found, key=lambda each: (each.dataset, each.name))


def _file(
    event: FileEvent,
    dataset: str,
    rows: int | None,
    partial: bool,
    refused: str | None,
    counts: Mapping[tuple[str, str | None], int],
    batches: Mapping[str, Mapping[str, int]],
) -> FileSummary:
    return FileSummary(
        event.path.decode("utf-8", "backslashreplace"), event.file, dataset, event.size, event.alg, event.hash, rows,
        partial, refused, counts, batches,
    )  # fmt: skip


def table(job: str, files: list[FileSummary]) -> list[tuple[str, ...]]:
    """The rows of the CSV form, see `COLUMNS`: one for each file, outcome and code, whose rows add up to the file's."""
    found: list[tuple[str, ...]] = []
    for each in files:
        if each.refused is not None:
            found.append((job, each.name, each.dataset, "refused", each.refused, ""))
        found += [
            (job, each.name, each.dataset, outcome, code or "", str(count))
            for (outcome, code), count in sorted(each.counts.items(), key=str)
        ]
    return found


def batch_table(job: str, files: list[FileSummary]) -> list[tuple[str, ...]]:
    """The batches in CSV form, see `BATCH_COLUMNS`."""
    return [
        (job, each.name, url, *(str(count) for count in _of_batch(counts).values()))
        for each in files
        for url, counts in each.batches.items()
    ]


def _batches(evidence: Evidence, place: Place) -> dict[str, Counter[str]]:
    """The batches of a file; ART's names for them begin with the time, so they are in the order of their sending."""
    found: dict[str, Counter[str]] = {}
    for told in evidence.told.get(place, {}).values():
        found.setdefault(told.where, Counter()).update(told.counts)
    return dict(sorted(found.items()))


def _of_batch(counts: Mapping[str, int]) -> dict[str, int]:
    return {outcome: counts.get(outcome, 0) for outcome in ("delivered", "dead_lettered")}
