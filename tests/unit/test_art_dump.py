"""Made-up dumps: equal for equal seeds, and what they say of themselves is true."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from headrace.cli.lazy import load_command
from headrace.cli.sandbox import sandboxes
from headrace_art.mapping import REQUIRED_COLUMNS, MappingSettings, StudentMapper
from headrace_art.mapping.values import school_key
from headrace_art.sandbox.dump.plan import Plan
from headrace_art.sandbox.dump.writing import Night, Summary

DAY = "20240312"
CLEAN = {"duplicates": 0, "unknown_schools": 0, "broken": 0, "rare": 0}


def night(folder: Path, *, members: int = 1, plain: bool = False, **values: Any) -> Summary:
    plan = Plan.model_validate({"rows": 2000, "districts": 20, "schools": 200, **values})
    return Night(folder, DAY, plan, members=members, plain=plain).write()


def tables(path: str) -> list[list[dict[str, str]]]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        texts = [archive.read(name).decode("latin-1") for name in archive.namelist()]
    return [list(csv.DictReader(io.StringIO(text), delimiter="^", quoting=csv.QUOTE_NONE)) for text in texts]


def rows(summary: Summary) -> list[dict[str, str]]:
    return [row for table in tables(summary.students) for row in table]


def schools(summary: Summary) -> dict[str, str]:
    (table,) = tables(summary.schools)
    return {school_key(row["County-District Code"], row["School Code"]): row["Auth CDS Code"] for row in table}


def test_equal_seeds_make_equal_bytes_and_others_do_not(tmp_path):
    one, same, other = (night(tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for kind in ("students", "schools"):
        first, second, third = (Path(getattr(each, kind)).read_bytes() for each in (one, same, other))
        assert first == second
        assert first != third
    assert Path(one.students).name == "CA_students_20240312.zip"
    assert Path(one.schools).parent.name == "Schools"


def test_every_member_has_its_header_and_all_together_have_the_rows_of_one(tmp_path):
    single, several = night(tmp_path / "a"), night(tmp_path / "b", members=3)
    parts = tables(several.students)
    assert len(parts) == 3
    assert min(len(part) for part in parts) > 600
    assert [row for part in parts for row in part] == rows(single)
    assert set(REQUIRED_COLUMNS) < set(parts[2][0])


def test_plain_files_hold_the_same_rows(tmp_path):
    zipped, plain = night(tmp_path / "a"), night(tmp_path / "b", plain=True)
    with zipfile.ZipFile(zipped.students) as archive:
        assert archive.read(archive.namelist()[0]) == Path(plain.students).read_bytes()


def test_exactly_the_rows_that_are_told_break_a_rule_or_have_an_unknown_school(tmp_path):
    summary = night(tmp_path, rows=20_000, broken=0.01, unknown_schools=0.01, rare=0.05, members=2)
    mapper = StudentMapper(MappingSettings(), schools(summary))
    told = {(member, line): field for member, line, field in summary.broken_lines}
    seen, unknown = {}, 0
    for member, table in enumerate(tables(summary.students), 1):
        for line, row in enumerate(table, 2):
            result = mapper.map(row)
            unknown += not result.known_school
            if result.broken:
                seen[member, line] = result.broken[0].field
    assert seen == told
    assert len(told) == sum(summary.broken.values()) == 200
    assert unknown == summary.unknown_schools == 200
    assert len(summary.broken) >= 8


def test_duplicates_are_identical_or_differ_and_are_counted(tmp_path):
    summary = night(tmp_path, **CLEAN | {"duplicates": 0.01})
    seen: dict[str, list[str]] = {}
    for row in rows(summary):
        seen.setdefault(row["SSID"], []).append(str(row))
    twice = Counter("identical" if len(set(each)) == 1 else "different" for each in seen.values() if len(each) == 2)
    assert twice == summary.duplicates == {"identical": 10, "different": 10}
    assert (summary.rows, summary.distinct) == (2020, 2000)


def test_the_second_night_differs_in_exactly_what_was_asked_for(tmp_path):
    first = {row["SSID"]: row for row in rows(night(tmp_path / "1", **CLEAN))}
    later = night(tmp_path / "2", changed=0.01, removed=10, added=7, **CLEAN)
    second = {row["SSID"]: row for row in rows(later)}
    assert len(first.keys() - second.keys()) == 10
    assert len(second.keys() - first.keys()) == 7
    changed = [ssid for ssid in first.keys() & second.keys() if first[ssid] != second[ssid]]
    assert len(changed) == later.changed == 20
    assert not night(tmp_path / "3", **CLEAN).changed


def test_schools_are_missing_renamed_and_moved(tmp_path):
    before, after = night(tmp_path / "1"), night(tmp_path / "2", missing_schools=2, renamed_schools=3, moved_schools=4)
    (old,), (new,) = tables(before.schools), tables(after.schools)
    old_by_id, new_by_id = ({row["Auth CDS Code"]: row for row in table} for table in (old, new))
    assert len(old_by_id.keys() - new_by_id.keys()) == 2
    both = old_by_id.keys() & new_by_id.keys()
    assert sum(old_by_id[each]["School Name"] != new_by_id[each]["School Name"] for each in both) == 3
    moved = [
        each for each in both if old_by_id[each]["County-District Code"] != new_by_id[each]["County-District Code"]
    ]
    assert len(moved) == 4
    mapper = StudentMapper(MappingSettings(), schools(after))
    lost = {row["ResponsibleSchoolIdentifier"] for row in rows(after) if not mapper.map(row).known_school}
    assert len(lost - {"9999999"}) == 2


def test_district_rows_have_equal_codes_and_charter_schools_another_agency(tmp_path):
    (table,) = tables(night(tmp_path).schools)
    districts = [row for row in table if row["County-District Code"] == row["School Code"]]
    assert len(districts) == 20
    assert all(row["Auth CDS Code"] == row["County-District Code"] + "0000000" for row in districts)
    charter = [row for row in table if row["Charter School"] == "Y"]
    assert charter
    assert all(not row["Auth CDS Code"].startswith(row["County-District Code"]) for row in charter)
    assert any(len(row["School Name"]) > 60 for row in table)


def test_a_plan_that_cannot_be_is_refused():
    with pytest.raises(ValidationError, match="more students are removed"):
        Plan(rows=1, removed=2)


def test_the_command_tells_what_it_made(tmp_path):
    command = load_command(sandboxes()["students"])
    truth = tmp_path / "truth.json"
    arguments = [
        str(tmp_path),
        "--rows",
        "1000",
        "--changed",
        "1%",
        "--date",
        DAY,
        "--broken",
        "1%",
        "--truth",
        str(truth),
    ]
    result = CliRunner().invoke(_app(command), arguments)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["changed"], told["distinct"], told["school_rows"]) == (10, 1000, 2200)
    assert len(json.loads(truth.read_text())["broken_lines"]) == 10
    assert CliRunner().invoke(_app(command), [str(tmp_path), "--rows", "1", "--broken", "many"]).exit_code == 2


def _app(command: Any) -> Any:
    import typer

    app = typer.Typer()
    app.command()(command.callback)
    return app
