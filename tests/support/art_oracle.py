"""The judge of nights: what ART must have, recomputed from the raw frames of the dumps, and what the receipts may say.

It trusts nothing of Headrace: frames are put together by `tests.support.oracle`, receipts are read by their schema,
rows by the plainest means, and the ledger is not asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroaring import BitMap64

from tests.support import oracle
from tests.support.art_loading import as_stored, rows_of, schools_of

SCHOOLS_COLUMN = b"Auth CDS Code"


@dataclass
class Truth:
    """The dumps in the order of their names: ids of schools by their codes, their names, rows by file id and line."""

    schools: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    school_lines: dict[str, set[int]] = field(default_factory=dict)
    students: dict[str, list[tuple[int, dict[str, str]]]] = field(default_factory=dict)


@dataclass
class Art:
    """What ART has: students and schools as it tells them, and how often each student was saved."""

    students: Sequence[Mapping[str, Any]]
    schools: Sequence[Mapping[str, Any]]
    saves: Mapping[str, int]


Said = dict[str, list[tuple[str, set[int]]]]
"""By file id: outcomes with their lines, of one group."""


def dumps(bootstrap: str, prefix: str, scratch: Path) -> Truth:
    """The dumps that are whole on the log."""
    truth = Truth()
    versions = oracle.rebuild(bootstrap, prefix, scratch, ("chunks", "chunks-personal")).whole.values()
    for version in sorted(versions, key=lambda each: each.path):
        content = version.spool.read_bytes()
        if SCHOOLS_COLUMN in content.partition(b"\n")[0]:
            truth.schools |= schools_of(content)
            truth.names |= {row["Auth CDS Code"]: row["School Name"].strip()[:60] for _, row in rows_of(content)}
            truth.school_lines[version.file] = {line for line, _ in rows_of(content)}
        else:
            truth.students[version.file] = rows_of(content)
    return truth


def said(bootstrap: str, prefix: str, group: str) -> Said:
    """What the receipts of a group say of lines; of each receipt's name the last one, as compaction leaves it.

    Those of batches are left out: they tell of lines of which the receipt of their part tells again.
    """
    last: dict[str, dict[str, Any]] = {}
    for ack in oracle.avro_records(bootstrap, f"{prefix}upload-acks", "UploadAck"):
        if ack["group"] == group and ack["file"] is not None and not ack["item"].startswith("batch/"):
            last[ack["item"]] = ack
    found: Said = {}
    for ack in last.values():
        for covers in ack["covers"]:
            lines = {-1} if covers["lines"] is None else set(BitMap64.deserialize(covers["lines"]))
            found.setdefault(ack["file"].hex(), []).append((covers["outcome"], lines))
    return found


def wrong(truth: Truth, art: Art, students: Said, entities: Said) -> list[str]:
    """Everything that is not as it must be, in words."""
    found = _lines(truth.school_lines, entities, "schools")
    found += _lines({file: {line for line, _ in rows} for file, rows in truth.students.items()}, students, "students")
    ids = Counter(each["entityId"] for each in art.schools)
    found += [f"school {each} is not at ART" for each in set(truth.schools.values()) - ids.keys()]
    found += [
        f"school {each['entityId']} has an old name"
        for each in art.schools
        if each["entityName"] != truth.names.get(each["entityId"])
    ]
    found += [f"school {each} is there {count} times" for each, count in ids.items() if count > 1]
    expected: dict[str, dict[str, Any]] = {}
    saves: Counter[str] = Counter()
    for file, rows in truth.students.items():
        aside = _of(students.get(file, ()), "dead_lettered") | _of(students.get(file, ()), "held")
        for line, row in rows:
            school = truth.schools.get(f"{row['ResponsibleDistrictIdentifier']}/{row['ResponsibleSchoolIdentifier']}")
            if line in aside or school is None:
                continue
            stored = as_stored(row, school)
            saves[row["SSID"]] += expected.get(row["SSID"]) != stored
            expected[row["SSID"]] = stored
    stored = {}
    for each in art.students:
        if each["ssid"] in stored:
            found.append("a student is there twice")
        stored[each["ssid"]] = each
    found += [f"{len(lost)} students lost" for lost in [expected.keys() - stored.keys()] if lost]
    found += [f"{len(extra)} students invented" for extra in [stored.keys() - expected.keys()] if extra]
    older = [ssid for ssid in stored.keys() & expected.keys() if stored[ssid] != expected[ssid]]
    if older:
        found.append(f"{len(older)} students are not as their last row says")
    # Whoever puts an old row back, and then the new one again, saves twice more. Of a student whom one file names twice
    # the first row may come again after a death, or be passed over: what counts is the end.
    twice = {ssid for rows in truth.students.values() for ssid, n in _named(rows).items() if n > 1}
    often = {ssid: count for ssid, count in art.saves.items() if count != saves[ssid] and ssid not in twice}
    if often:
        wanted = sum(saves[ssid] for ssid in often)
        found.append(f"{len(often)} students were saved {sum(often.values())} times instead of {wanted}")
    return found


def _lines(expected: Mapping[str, set[int]], found: Said, what: str) -> list[str]:
    problems = []
    for file, lines in expected.items():
        sets = [each for _, each in found.get(file, ())]
        union = set().union(*sets)
        if union != lines:
            problems.append(f"{len(lines ^ union)} lines of {what} {file[:8]} are not accounted for")
        if sum(map(len, sets)) != len(union):
            problems.append(f"{sum(map(len, sets)) - len(union)} lines of {what} {file[:8]} are accounted for twice")
    return problems


def _named(rows: Iterable[tuple[int, Mapping[str, str]]]) -> Counter[str]:
    return Counter(row["SSID"] for _, row in rows)


def _of(sets: Iterable[tuple[str, set[int]]], outcome: str) -> set[int]:
    return set().union(*(lines for each, lines in sets if each == outcome))
