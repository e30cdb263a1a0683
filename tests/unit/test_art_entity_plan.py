"""Districts and schools: what ART should have, and what is done about it (reference 1.8, 3.7)."""

from __future__ import annotations

import pytest

from headrace_art.entity_plan import Action, Decision, EntityIncomplete, EntityTwice, Wanted, decide, plan
from headrace_art.schools import SchoolRow, lookup

HEADER = "County-District Code^School Code^Auth CDS Code^County Name^District Name^School Name^Charter School^x^y"
DISTRICT = "9900123^9900123^99001230000000^Lakeland^Riverbend Unified^Riverbend Unified^N^^N"
SCHOOL = "9900123^0456789^99001230456789^Lakeland^Riverbend Unified^Otter Creek Elementary^N^^N"
CHARTER = "9900123^0456800^99007770456800^Lakeland^Riverbend Unified^Hillside Charter^Y^Active^N"


def rows(*lines: str) -> list[SchoolRow]:
    return [SchoolRow.of(dict(zip(HEADER.split("^"), line.split("^"), strict=True))) for line in lines]


def test_the_reference_s_sample_makes_one_district_and_three_schools():
    made = plan(rows(DISTRICT, SCHOOL, CHARTER), "CA")
    assert [each.record for each in made.districts] == [
        {
            "entityId": "99001230000000", "entityName": "Riverbend Unified", "nationwideIdentifier": "99001230000000",
            "parentEntityId": "CA", "parentEntityType": "STATE", "stateAbbreviation": "CA",
        }
    ]  # fmt: skip
    # The district's own row is a school as well.
    assert [each.entity_id for each in made.institutions] == ["99001230000000", "99001230456789", "99007770456800"]
    assert made.institutions[2].record == {
        "entityId": "99007770456800", "entityName": "Hillside Charter", "nationwideIdentifier": "99007770456800",
        "parentEntityId": "99001230000000", "parentEntityType": "DISTRICT", "stateAbbreviation": "CA",
    }  # fmt: skip
    assert made.problems == ()


def test_students_find_their_school_by_both_codes_whatever_blanks_are_around_them():
    found = lookup(rows(f" {SCHOOL}", CHARTER.replace("99007770456800", "99007770456800 "), "1^2^^x^x^x^N^^N"))
    assert found == {"9900123/0456789": "99001230456789", "9900123/0456800": "99007770456800"}


def test_names_are_stripped_and_cut_to_sixty():
    made = plan(rows(SCHOOL.replace("Otter Creek Elementary", "  " + "x" * 59 + "yz ")), "CA")
    assert made.institutions[0].name == "x" * 59 + "y"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (SCHOOL.replace("99001230456789", " "), "its id is blank"),
        (SCHOOL.replace("99001230456789", "99-1"), "its id is not made of"),
        (SCHOOL.replace("99001230456789", "9" * 41), "its id is not made of"),
        (SCHOOL.replace("Otter Creek Elementary", ""), "its name is blank"),
        (SCHOOL.replace("Otter", "Ωtter"), "characters"),
        (SCHOOL.replace("9900123^0", "^0"), "its district is blank"),
    ],
)
def test_a_row_that_art_would_refuse_is_a_problem_and_no_request(line, problem):
    made = plan(rows(line), "CA")
    assert made.institutions == ()
    (found,) = made.problems
    assert isinstance(found, EntityIncomplete)
    assert problem in str(found)


def test_of_rows_with_one_id_the_first_counts_and_a_difference_is_told():
    other = SCHOOL.replace("9900123^0456789", "9900777^0456789")
    made = plan(rows(SCHOOL, SCHOOL, other), "CA")
    assert [each.parent_id for each in made.institutions] == ["99001230000000"]
    assert [type(each) for each in made.problems] == [EntityTwice]
    assert "another district" in str(made.problems[0])


@pytest.mark.parametrize(
    ("kind", "name", "parent", "expected"),
    [
        ("institution", None, None, (Action.CREATE, False)),
        ("institution", "Otter", "98", (Action.NOTHING, False)),
        ("institution", "Other", "98", (Action.RENAME, False)),
        ("institution", "Otter", "97", (Action.NOTHING, True)),
        ("institution", "Other", "97", (Action.RENAME, True)),
        ("district", None, None, (Action.CREATE, False)),
        ("district", "Otter", "97", (Action.NOTHING, False)),
        ("district", "Other", "97", (Action.RENAME, False)),
    ],
)
def test_the_table_of_decisions(kind, name, parent, expected):
    assert decide(Wanted(kind, "99", "Otter", "98", "CA"), name, parent) == Decision(*expected)
