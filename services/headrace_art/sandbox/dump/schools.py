"""Made-up districts and schools. Source: reference art 2.2."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headrace_art.sandbox.dump import words
from headrace_art.sandbox.dump.plan import Plan, draw

HEADER = (
    "County-District Code^School Code^Auth CDS Code^County Name^District Name^School Name^Charter School"
    "^Charter Status^NPS School"
)
_COUNTIES = 58
_LONG_EACH = 150
_CHARTER_EACH = 30


@dataclass(frozen=True)
class School:
    """A row of the schools file; the district's own row has equal codes."""

    district: str
    code: str
    cds: str
    county: str
    district_name: str
    name: str
    charter: bool

    @property
    def line(self) -> str:
        """The row as it stands in the file."""
        charter = "Y^Active" if self.charter else "N^"
        return f"{self.district}^{self.code}^{self.cds}^{self.county}^{self.district_name}^{self.name}^{charter}^N"


class Schools:
    """All schools of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._districts = [self._district(number) for number in range(plan.districts)]
        self.schools = [self._school(number) for number in range(plan.schools)]

    def lines(self) -> Iterator[str]:
        """The rows of the schools file, each district before its schools' first."""
        for district in self._districts:
            yield district.line
        for school in self.schools[self._plan.missing_schools :]:
            yield school.line

    def _district(self, number: int) -> School:
        drawn = draw(self._plan.seed, "district", number)
        code = f"{number % _COUNTIES + 1:02}{10_000 + number:05}"
        place = words.PLACES[drawn[0] % len(words.PLACES)]
        name = f"{place} {words.DISTRICT_KINDS[drawn[1] % 4]} {number + 1}"
        if number % _LONG_EACH == _LONG_EACH - 1:
            name = f"{name} {words.LONG_NAME}"
        return School(code, code, f"{code}{'0' * 7}", f"County {number % _COUNTIES + 1}", name, name, charter=False)

    def _school(self, number: int) -> School:
        plan, drawn = self._plan, draw(self._plan.seed, "school", number)
        home = self._districts[number % plan.districts]
        code = f"{100_000 + number:07}"
        charter = number % _CHARTER_EACH == _CHARTER_EACH - 1
        authority = self._districts[(number + 1) % plan.districts] if charter else home
        kind = "Charter" if charter else words.SCHOOL_KINDS[drawn[1] % 4]
        name = f"{words.PLACES[drawn[0] % len(words.PLACES)]} {kind} {number + 1}"
        if number % _LONG_EACH == _LONG_EACH - 1:
            name = f"{name} {words.LONG_NAME}"
        place = number - plan.missing_schools
        if 0 <= place < plan.renamed_schools:
            name = f"New {name}"
        elif plan.renamed_schools <= place < plan.renamed_schools + plan.moved_schools:
            home = self._districts[(number + 1) % plan.districts]
        return School(home.district, code, f"{authority.district}{code}", home.county, home.name, name, charter)
