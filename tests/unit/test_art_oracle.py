"""The judge of nights finds what is planted: a loss, a duplicate, an old row, a line that nobody speaks of."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.art_loading import as_stored
from tests.support.art_oracle import Art, Said, Truth, wrong
from tests.support.art_records import CDS, DISTRICT, SCHOOL, student

FIRST, SECOND = "aa" * 16, "bb" * 16
SCHOOLS = "cc" * 16


def row(ssid: str, name: str) -> dict[str, str]:
    columns = (
        "MiddleName", "EnglishLanguageProficiencyLevel", "HispanicOrLatinoEthnicity", "AmericanIndianOrAlaskaNative",
        "Asian", "BlackOrAfricanAmerican", "White", "NativeHawaiianOrOtherPacificIslander",
        "DemographicRaceTwoOrMoreRaces", "IDEAIndicator", "LEPStatus", "Section504Status", "EconomicDisadvantageStatus",
        "MigrantStatus", "FirstEntryDateIntoUSSchool", "LimitedEnglishProficiencyEntryDate", "LEPExitDate",
        "LanguageCode", "PrimaryDisabilityType",
    )  # fmt: skip
    return {**dict.fromkeys(columns, ""), **student(ssid, FirstName=name)}


def a_good_night() -> tuple[Truth, Art, Said, Said]:
    """Two nights of three students; the second has another name for one, and a row that was put aside."""
    truth = Truth(
        {f"{DISTRICT}/{SCHOOL}": CDS},
        {CDS: "Otter Creek"},
        {SCHOOLS: {2}},
        {
            FIRST: [(line, row(f"s{line}", "Ana")) for line in (2, 3, 4)],
            SECOND: [(2, row("s2", "Ana")), (3, row("s3", "Bea")), (4, row("s4", "Cyd"))],
        },
    )
    last = [row("s2", "Ana"), row("s3", "Bea"), row("s4", "Ana")]
    art = Art(
        [as_stored(each, CDS) for each in last],
        [{"entityId": CDS, "entityName": "Otter Creek"}],
        {"s2": 1, "s3": 2, "s4": 1},
    )
    said: Said = {
        FIRST: [("delivered", {2, 3, 4})],
        SECOND: [("unchanged", {2}), ("delivered", {3}), ("dead_lettered", {4})],
    }
    return truth, art, said, {SCHOOLS: [("delivered", {2})]}


def test_a_good_night_is_found_good() -> None:
    assert wrong(*a_good_night()) == []


def lose(art: Art, _: Said) -> None:
    art.students = art.students[1:]


def invent(art: Art, _: Said) -> None:
    art.students = [*art.students, {**art.students[0], "ssid": "s9"}]


def double(art: Art, _: Said) -> None:
    art.students = [*art.students, art.students[0]]


def put_back(art: Art, _: Said) -> None:
    art.students = [as_stored(row("s3", "Ana"), CDS) if each["ssid"] == "s3" else each for each in art.students]


def save_again(art: Art, _: Said) -> None:
    art.saves = {**art.saves, "s2": 3}


def lose_a_school(art: Art, _: Said) -> None:
    art.schools = []


def double_a_school(art: Art, _: Said) -> None:
    art.schools = [*art.schools, *art.schools]


def forget_a_line(_: Art, said: Said) -> None:
    said[FIRST] = [("delivered", {2, 4})]


def tell_a_line_twice(_: Art, said: Said) -> None:
    said[FIRST].append(("dead_lettered", {3}))


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lose, "lost"), (invent, "invented"), (double, "twice"), (put_back, "last row"), (save_again, "saved 3 times"),
        (lose_a_school, "not at ART"), (double_a_school, "2 times"), (forget_a_line, "1 lines of students"),
        (tell_a_line_twice, "accounted for twice"),
    ],
)  # fmt: skip
def test_what_is_planted_is_found(plant: Callable[[Any, Any], None], words: str) -> None:
    truth, art, said, schools = copy.deepcopy(a_good_night())
    plant(art, said)
    assert any(words in each for each in wrong(truth, art, said, schools))
