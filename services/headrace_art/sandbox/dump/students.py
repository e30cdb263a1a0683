"""Made-up students, row by row. Source: reference art 2.3, 5.8."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headrace_art.sandbox.dump import words
from headrace_art.sandbox.dump.plan import Plan, draw, every
from headrace_art.sandbox.dump.schools import Schools

COLUMNS = (
    "ConfirmationCode", "ResponsibleDistrictIdentifier", "ResponsibleSchoolIdentifier", "LastOrSurname",
    "LastOrSurnameAlias", "FirstName", "FirstNameAlias", "MiddleName", "MiddleNameAlias", "DateofBirth", "SSID",
    "SmarterStudentID", "GradeLevelWhenAssessed", "Sex", "HispanicOrLatinoEthnicity", "AmericanIndianOrAlaskaNative",
    "Asian", "Filipino", "BlackOrAfricanAmerican", "White", "NativeHawaiianOrOtherPacificIslander",
    "DemographicRaceTwoOrMoreRaces", "IDEAIndicator", "LEPStatus", "EnglishLanguageAcquisitionStatus",
    "Section504Status", "EconomicDisadvantageStatus", "LanguageCode", "EnglishLanguageProficiencyLevel",
    "MigrantStatus", "FirstEntryDateIntoUSSchool", "LimitedEnglishProficiencyEntryDate", "LEPExitDate",
    "PrimaryDisabilityType", "ParentHighestEducationLevel", "ResidentialAddressLine1", "ResidentialAddressCity",
    "ResidentialAddressZipCode", "Special Education District of Accountability", "EnrollmentEffectiveDate",
    "StateAbbreviation",
)  # fmt: skip
"""All columns, used or not; their order in the real dump is not public (reference U1)."""

HEADER = "^".join(COLUMNS)
FIRST_SSID = 1_000_000_001
UNKNOWN_SCHOOL = "9999999"

_AT = {name: position for position, name in enumerate(COLUMNS)}
_LATE = 50
"""Rows between a student and its duplicate."""

_CHANGED, _DUPLICATE, _UNKNOWN, _BROKEN, _RARE = 0, 311, 523, 739, 877
"""Shifts that keep the shares apart."""


def _put(name: str, text: str) -> Callable[[list[str]], None]:
    def change(cells: list[str]) -> None:
        cells[_AT[name]] = text

    return change


BREAKERS: tuple[tuple[str, Callable[[list[str]], None]], ...] = (
    ("birthDate", _put("DateofBirth", "11/30/2009")),
    ("birthDate", _put("DateofBirth", "2009-02-30")),
    ("firstName", _put("FirstName", "X" * 36)),
    ("sex", _put("Sex", "X")),
    ("lastName", _put("LastOrSurname", "É" * 101)),
    ("languageCode", _put("LanguageCode", "ES")),
    ("externalSsid", _put("SmarterStudentID", "")),
    ("stateAbbreviation", _put("StateAbbreviation", "ZZ")),
    ("primaryDisabilityType", _put("PrimaryDisabilityType", "210")),
    ("lepEntryDate", _put("LimitedEnglishProficiencyEntryDate", "2015-9-1")),
)
"""The ways in which a row may break a rule, each with the property that ART would name."""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the dump, and what is special about it."""

    line: str
    number: int
    broken: str | None = None
    unknown_school: bool = False
    changed: bool = False
    duplicate: str | None = None


class Students:
    """The rows of a plan, made one by one."""

    def __init__(self, plan: Plan, schools: Schools) -> None:
        self._plan = plan
        self._schools = [(school.district, school.code) for school in schools.schools]

    def rows(self) -> Iterator[Row]:
        """All rows: the first night's less the removed, the added, and some twice."""
        plan = self._plan
        later: dict[int, Row] = {}
        gap = plan.rows // plan.removed if plan.removed else 0
        removed = 0
        position = 0
        for number in range(plan.rows + plan.added):
            if gap and number < plan.rows and removed < plan.removed and number % gap == gap // 2:
                removed += 1
                continue
            row, again = self._row(number)
            yield row
            if again is not None:
                later[position + _LATE] = again
            if (due := later.pop(position, None)) is not None:
                yield due
            position += 1
        yield from later.values()

    def _row(self, number: int) -> tuple[Row, Row | None]:
        """A student's row, and the one in which it comes again, if it does."""
        plan = self._plan
        cells = self._cells(number)
        if every(plan.rare, number, _RARE) is not None:
            self._make_rare(cells, number)
        unknown = every(plan.unknown_schools, number, _UNKNOWN) is not None
        if unknown:
            cells[_AT["ResponsibleSchoolIdentifier"]] = UNKNOWN_SCHOOL
        broken = None
        if (turn := every(plan.broken, number, _BROKEN)) is not None:
            broken, breaker = BREAKERS[turn % len(BREAKERS)]
            breaker(cells)
        changed = number < plan.rows and every(plan.changed, number, _CHANGED) is not None
        if changed:
            cells[_AT["EconomicDisadvantageStatus"]] = _other(cells[_AT["EconomicDisadvantageStatus"]])
        line = "^".join(cells)
        row = Row(line, number, broken, unknown, changed)
        turn = every(plan.duplicates, number, _DUPLICATE)
        if turn is None or broken or unknown:
            return row, None
        if turn % 2 == 0:
            return row, Row(line, number, duplicate="identical")
        cells[_AT["MigrantStatus"]] = _other(cells[_AT["MigrantStatus"]])
        return row, Row("^".join(cells), number, duplicate="different")

    def _cells(self, number: int) -> list[str]:
        d = draw(self._plan.seed, "student", number)
        district, school = self._schools[int.from_bytes(d[0:4], "big") % len(self._schools)]
        age = 5 + d[4] % 13
        year = 2024 - age
        learner = d[5] < 60
        flags = [words.YES[b & 3] if b < 40 else words.NO[b & 3] for b in d[8:20]]
        special = words.DISABILITIES[d[20] & 15]
        entry = f"{year + 5}-08-{d[21] % 28 + 1:02}"
        return [
            f"C{number:08}",
            district,
            school,
            words.LAST_NAMES[d[22] & 31],
            "",
            words.FIRST_NAMES[d[23] & 31],
            "",
            words.FIRST_NAMES[d[24] & 31] if d[25] & 1 else "",
            "",
            f"{year}-{d[26] % 12 + 1:02}-{d[27] % 28 + 1:02}",
            str(FIRST_SSID + number),
            f"SB{FIRST_SSID + number}",
            words.COMMON_GRADES[min(age - 5, 11)] if d[28] & 15 else words.COMMON_GRADES[12 + (d[29] & 1)],
            "Female" if d[30] & 1 else "Male",
            *flags[0:3],
            words.NO[d[31] & 3],
            *flags[3:7],
            "Yes" if special else "No",
            "Yes" if learner else flags[7] and "No",
            "EL" if learner else "EO",
            flags[8],
            flags[9],
            words.LANGUAGES[d[32] & 15] if learner else "ENG",
            str(d[33] & 3) if learner else "",
            flags[10],
            entry,
            entry if learner else "",
            f"{year + 9}-06-01" if learner and d[34] < 30 else "",
            special,
            str(10 + d[35] % 6),
            f"{d[36]} {words.STREETS[d[37] & 7]}",
            words.PLACES[d[38] & 15],
            f"9{d[39]:03}{d[40] % 10}",
            district if special else "",
            f"2024-08-{d[41] % 28 + 1:02}",
            self._plan.state,
        ]

    def _make_rare(self, cells: list[str], number: int) -> None:
        d = draw(self._plan.seed, "rare", number)
        cells[_AT["GradeLevelWhenAssessed"]] = words.RARE_GRADES[d[0] % len(words.RARE_GRADES)]
        if d[1] & 1:
            cells[_AT["FirstName"]] = "Ñ" * 35
        if d[2] & 1:
            cells[_AT["LastOrSurname"]] = "O'" * 50


def _other(flag: str) -> str:
    """A flag that means the opposite."""
    return "No" if flag.strip().lower() == "yes" else "Yes"
