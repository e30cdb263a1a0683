"""The mapping as a table: which column becomes which property, how, and what ART asks of it.

Source: reference art 2.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from headrace_art.codes import DISABILITIES, LANGUAGES


class Kind(Enum):
    """How a column becomes a value, and how that is checked."""

    SSID = "taken as it is"
    NAME = "text in ART's characters"
    TEXT = "ASCII text"
    CODE = "one of a list, or blank"
    SEX = "Male or Female"
    IDENTIFIER = "letters and digits"
    DATE = "ISO date or blank"
    FLAG = "true if it says yes"
    GRADE = "mapped"
    INSTITUTION = "looked up by district and school"
    DISTRICT = "made from the district code"
    STATE = "the state that is loaded"
    NOTHING = "always null"


@dataclass(frozen=True)
class Column:
    """One line of the table.

    `longest` is in characters. `codes` are compared in lower case, or in upper case if `upper`.
    """

    name: str | None
    key: str
    kind: Kind
    longest: int | None = None
    required: bool = False
    codes: frozenset[str] = frozenset()
    upper: bool = False


TABLE: tuple[Column, ...] = (
    Column("SSID", "ssid", Kind.SSID, 40, required=True),
    Column("FirstName", "firstName", Kind.NAME, 35),
    Column("MiddleName", "middleName", Kind.NAME, 35),
    Column("LastOrSurname", "lastName", Kind.NAME, 100),
    Column("Sex", "sex", Kind.SEX, required=True),
    Column("DateofBirth", "birthDate", Kind.DATE),
    Column("SmarterStudentID", "externalSsid", Kind.IDENTIFIER, 50, required=True),
    Column("ResponsibleSchoolIdentifier", "institutionIdentifier", Kind.INSTITUTION, 40, required=True),
    Column("ResponsibleDistrictIdentifier", "districtIdentifier", Kind.DISTRICT, 40),
    Column("GradeLevelWhenAssessed", "gradeLevelWhenAssessed", Kind.GRADE, required=True),
    Column("HispanicOrLatinoEthnicity", "hispanicOrLatino", Kind.FLAG),
    Column("AmericanIndianOrAlaskaNative", "americanIndianOrAlaskaNative", Kind.FLAG),
    Column("Asian", "asian", Kind.FLAG),
    Column("BlackOrAfricanAmerican", "blackOrAfricanAmerican", Kind.FLAG),
    Column("White", "white", Kind.FLAG),
    Column("NativeHawaiianOrOtherPacificIslander", "nativeHawaiianOrPacificIsland", Kind.FLAG),
    Column("DemographicRaceTwoOrMoreRaces", "twoOrMoreRaces", Kind.FLAG),
    Column("FirstEntryDateIntoUSSchool", "firstEntryDateIntoUsSchool", Kind.DATE),
    Column("IDEAIndicator", "iDEAIndicator", Kind.FLAG),
    Column("LEPStatus", "lepStatus", Kind.FLAG),
    Column("LimitedEnglishProficiencyEntryDate", "lepEntryDate", Kind.DATE),
    Column("LEPExitDate", "lepExitDate", Kind.DATE),
    Column("EnglishLanguageProficiencyLevel", "elpLevel", Kind.TEXT),
    Column("Section504Status", "section504Status", Kind.FLAG),
    Column("EconomicDisadvantageStatus", "disadvantageStatus", Kind.FLAG),
    Column("LanguageCode", "languageCode", Kind.CODE, codes=LANGUAGES),
    Column("MigrantStatus", "migrantStatus", Kind.FLAG),
    Column(None, "title3ProgramType", Kind.NOTHING),
    Column("PrimaryDisabilityType", "primaryDisabilityType", Kind.CODE, codes=DISABILITIES, upper=True),
    Column("StateAbbreviation", "stateAbbreviation", Kind.STATE, required=True),
)
"""Thirty properties from 29 columns, in the reference's order."""

REQUIRED_COLUMNS: tuple[str, ...] = tuple(column.name for column in TABLE if column.name is not None)
"""The columns that a dump must have. Only names matter, in any order and case."""
