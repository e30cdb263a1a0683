"""The quick way from a record to JSON makes what the mapper makes, and leaves it whatever is doubtful."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.datasets.encoding import string
from headrace_art.mapping import REQUIRED_COLUMNS, MappingSettings, StudentMapper, Template
from tests.unit.test_art_mapping import ROW, choices

SCHOOL = "99001230456789"
COLUMNS = ["SSID", "Nickname", *REQUIRED_COLUMNS[1:], "Address"]
"""As a dump may have them: two are nobody's business."""
values = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            '"',
            "a\\b",
            "tab\t",
            " x",
            "x ",
            "O\u2019Neil",
            "Zo\u00eb",
            "yes",
            "YES",
            "No",
            "x" * 63,
            "x" * 64,
        ]
    ),
)
FREE = ["FirstName", "LastOrSurname", "MiddleName", "SSID", "SmarterStudentID", "White", "Asian", "Nickname", "Address"]
anything = st.fixed_dictionaries({}, optional={**choices, **dict.fromkeys(FREE, values)})


def record(row: dict[str, str], columns: Sequence[str] = COLUMNS) -> bytes:
    return b"".join(string(row.get(name) or "") for name in columns)


@pytest.fixture(scope="module")
def template() -> Template:
    return Template(StudentMapper(MappingSettings(), {}), COLUMNS)


def test_a_good_row_needs_no_second_look(template):
    mapper = StudentMapper(MappingSettings(), {})
    made = template.student(record(ROW), SCHOOL)
    assert made is not None
    assert json.loads(made) == mapper.map(ROW, school=SCHOOL).student


@given(st.lists(anything, min_size=1, max_size=4), st.sampled_from([SCHOOL, "1", "", "x" * 41, "12-3", "é", "y" * 80]))
def test_both_ways_make_the_same_and_what_is_wrong_is_left_to_the_mapper(rows, school):
    mapper = StudentMapper(MappingSettings(), {})
    template = Template(mapper, COLUMNS)
    for row in ({**ROW, **changes} for changes in [*rows, *rows]):
        mapped = mapper.map(row, school=school)
        made = template.student(record(row), school)
        if made is not None:
            assert json.loads(made) == mapped.student
            assert mapped.known_school
            assert not mapped.broken
            assert mapped.unknown_grade is None
        else:
            long = any(len((row.get(name) or "").encode()) >= 64 for name in COLUMNS) or len(school.encode()) >= 64
            assert mapped.broken or mapped.unknown_grade is not None or not mapped.known_school or long


@given(st.data())
def test_bytes_that_are_no_record_are_left_to_who_says_what_is_wrong_with_them(template, data: Any):
    good = record(ROW)
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    made = template.student(bytes(raw), SCHOOL)
    if made is not None:
        assert json.loads(made).keys() == json.loads(template.student(good, SCHOOL) or b"").keys()
    assert template.student(good[:-1], SCHOOL) is None
    assert template.student(good + b"\x00", SCHOOL) is None
