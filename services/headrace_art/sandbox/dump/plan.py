"""What is to be made, and which rows are special: fixed by the numbers alone, so that equal plans make equal files."""

from __future__ import annotations

import hashlib

from pydantic import Field, model_validator

from headrace.config import Section


class Plan(Section):
    """A night of a state. Shares are from 0 to 1 and hit every n-th row."""

    rows: int = Field(description="Students of the first night.", ge=0)
    seed: int = Field(0, description="Of all names and values.")
    districts: int = Field(200, description="Districts.", ge=1, le=90_000)
    schools: int = Field(2_000, description="Schools, beside the rows of the districts.", ge=1, le=9_000_000)
    state: str = Field("CA", description="The state of all students.")

    changed: float = Field(0, description="Share of students that differ from the first night.", ge=0, le=1)
    removed: int = Field(0, description="Students of the first night that are left out.", ge=0)
    added: int = Field(0, description="Students that the first night did not have.", ge=0)

    missing_schools: int = Field(0, description="Schools with students that the schools file lacks.", ge=0)
    renamed_schools: int = Field(0, description="Schools with another name.", ge=0)
    moved_schools: int = Field(0, description="Schools that keep their id and have another district.", ge=0)

    duplicates: float = Field(0.001, description="Share that comes twice; each second time with a change.", ge=0, le=1)
    unknown_schools: float = Field(0.001, description="Share in a school that no file knows.", ge=0, le=1)
    broken: float = Field(0.001, description="Share that breaks one of ART's rules.", ge=0, le=1)
    rare: float = Field(0.01, description="Share with names of full length and rare or unknown grades.", ge=0, le=1)

    @model_validator(mode="after")
    def _enough(self) -> Plan:
        if self.removed > self.rows:
            raise ValueError("more students are removed than there are rows")
        if self.missing_schools + self.renamed_schools + self.moved_schools > self.schools:
            raise ValueError("more schools are missing, renamed and moved than there are schools")
        if self.moved_schools and self.districts < 2:
            raise ValueError("a school can only move where there are two districts")
        return self


def every(share: float, number: int, shift: int = 0) -> int | None:
    """Whether `share` of all numbers includes this one; if so, how many it included before.

    Parameters:
        shift: so that several shares do not hit the same numbers.
    """
    at = number + shift
    before = int(at * share)
    return before - int(shift * share) if int((at + 1) * share) > before else None


def draw(seed: int, kind: str, number: int) -> bytes:
    """64 bytes that look random and depend on nothing else."""
    return hashlib.blake2b(f"{seed}/{kind}/{number}".encode()).digest()
