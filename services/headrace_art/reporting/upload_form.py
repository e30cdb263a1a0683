"""A student's row in the columns of ART's own upload page, for people who mend and upload it by hand.

Source: reference art 3.10: names and order of the columns, UTF-8, Yes and No, a last column that stays empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headrace_art.mapping import StudentMapper

COLUMNS: Mapping[str, str | None] = {
    "StateAbbreviation": "stateAbbreviation",
    "ResponsibleDistrictIdentifier": "districtIdentifier",
    "ResponsibleInstitutionIdentifier": "institutionIdentifier",
    "LastOrSurname": "lastName",
    "FirstName": "firstName",
    "MiddleName": "middleName",
    "Birthdate": "birthDate",
    "SSID": "ssid",
    "ExternalSSID": "externalSsid",
    "GradeLevelWhenAssessed": "gradeLevelWhenAssessed",
    "Sex": "sex",
    "HispanicOrLatinoEthnicity": "hispanicOrLatino",
    "AmericanIndianOrAlaskaNative": "americanIndianOrAlaskaNative",
    "Asian": "asian",
    "BlackOrAfricanAmerican": "blackOrAfricanAmerican",
    "White": "white",
    "NativeHawaiianOrOtherPacificIslander": "nativeHawaiianOrPacificIsland",
    "DemographicRaceTwoOrMoreRaces": "twoOrMoreRaces",
    "IDEAIndicator": "iDEAIndicator",
    "LEPStatus": "lepStatus",
    "Section504Status": "section504Status",
    "EconomicDisadvantageStatus": "disadvantageStatus",
    "LanguageCode": "languageCode",
    "EnglishLanguageProficiencyLevel": "elpLevel",
    "MigrantStatus": "migrantStatus",
    "FirstEntryDateIntoUSSchool": "firstEntryDateIntoUsSchool",
    "LimitedEnglishProficiencyEntryDate": "lepEntryDate",
    "LEPExitDate": "lepExitDate",
    "TitleIIILanguageInstructionProgramType": "title3ProgramType",
    "PrimaryDisabilityType": "primaryDisabilityType",
    "Delete": None,
}
"""ART's property by column of the page; the last one has none."""


def upload_row(mapper: StudentMapper, row: Mapping[str, Any]) -> list[str]:
    """A row of the dump as the page wants it, with what is wrong left as it is: a person is to mend it."""
    student = mapper.map(row, unlinked=True).student
    return [_text(None if key is None else student[key]) for key in COLUMNS.values()]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return "" if value is None else str(value)
