"""Asks ART for everything that the dump names, and tells what is missing or different. Source: reference art 1.11."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from headrace_art.checker.files import Line
from headrace_art.client import ArtClient
from headrace_art.client.concurrency import for_each
from headrace_art.client.patience import Patience
from headrace_art.entity_plan import Action, Kind, Wanted, decide, plan
from headrace_art.mapping import StudentMapper
from headrace_art.schools import SchoolRow, lookup

Show = Callable[[str, int], None]


@dataclass(frozen=True)
class Finding:
    """Something that is not as the dump says: ids and codes only."""

    kind: str
    entity_id: str
    event: str
    district: str = ""
    institution: str = ""


class Record(Protocol):
    """Takes what is found, as it is found: there may be millions."""

    def finding(self, finding: Finding) -> None:
        """Something is not as the dump says."""

    def missing(self, kind: str, line: str) -> None:
        """A line of the dump that ART has nothing of."""


class Comparison:
    """What was found. `counts` are by kind and verdict."""

    def __init__(self, record: Record) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.agrees = True
        self._record = record

    def tell(self, kind: str, verdict: str, finding: Finding | None = None, line: str | None = None) -> None:
        """Count a verdict, with what a person needs where it is a bad one."""
        self.counts[kind, verdict] += 1
        if finding is not None:
            self.agrees = False
            self._record.finding(finding)
        if line is not None:
            self._record.missing(kind, line)

    def summary(self) -> Mapping[str, Mapping[str, int]]:
        """The counts, by kind."""
        tree: dict[str, dict[str, int]] = {}
        for (kind, verdict), number in sorted(self.counts.items()):
            tree.setdefault(kind, {})[verdict] = number
        return tree


class Comparer:
    """Compares one dump with one ART; nothing is written there."""

    def __init__(self, client: ArtClient, patience: Patience, record: Record, show: Show) -> None:
        self._client, self._patience, self._show = client, patience, show
        self._known: dict[tuple[Kind, str], bool] = {}
        self.result = Comparison(record)

    async def entities(self, lines: Sequence[Line]) -> Mapping[str, str]:
        """Compare districts and schools; what students are looked up in."""
        rows = [SchoolRow.of(line.row) for line in lines]
        wanted = plan(rows, self._client.settings.state, self._client.settings.district_rule)
        texts = {
            ("district" if row.is_district else "", row.cds): line.text for row, line in zip(rows, lines, strict=True)
        }
        for problem in wanted.problems:
            identity = str(problem.details.get("entity_id", ""))
            self.result.tell("schools file", "refused", Finding("schools file", identity, problem.code))
        for kind, group in (("districts", wanted.districts), ("schools", wanted.institutions)):

            async def compare(each: Wanted, kind: str = kind) -> None:
                await self._entity(
                    kind, each, texts.get(("district", each.entity_id)) or texts.get(("", each.entity_id))
                )

            await for_each(group, compare, self._workers)
            self._show(kind, len(group))
        return lookup(rows)

    async def students(self, lines: Iterable[Line], mapper: StudentMapper) -> None:
        """Compare students one by one."""

        async def compare(line: Line) -> None:
            await self._student(line, mapper)
            done = sum(number for (kind, _), number in self.result.counts.items() if kind == "students")
            if done % 10_000 == 0:
                self._show("students", done)

        await for_each(lines, compare, self._workers)

    @property
    def _workers(self) -> int:
        return self._client.settings.connections

    async def _entity(self, kind: str, wanted: Wanted, line: str | None) -> None:
        found = await self._patience.run(lambda: self._client.find(wanted.kind, wanted.entity_id))
        self._known[wanted.kind, wanted.entity_id] = found is not None
        if found is None:
            self.result.tell(kind, "missing", Finding(kind, wanted.entity_id, "missing"), line)
            return
        decision = decide(wanted, found.name, found.parent_id)
        if decision.action is Action.RENAME:
            self.result.tell(kind, "renamed", Finding(kind, wanted.entity_id, "has another name"))
        if decision.parent_changed:
            event = f"has the parent {found.parent_id}, not {wanted.parent_id}"
            self.result.tell(kind, "moved", Finding(kind, wanted.entity_id, event))
        if decision == (Action.NOTHING, False):
            self.result.tell(kind, "equal")

    async def _student(self, line: Line, mapper: StudentMapper) -> None:
        mapped = mapper.map(line.row)
        student = mapped.student
        ssid = student["ssid"]
        if not ssid.strip():
            self.result.tell("students", "without an SSID", Finding("students", f"line {line.number}", "no SSID"))
            return
        stored = await self._patience.run(lambda: self._client.student(ssid))
        if stored is None:
            reason = mapped.broken[0].code if mapped.broken else "" if mapped.known_school else "unknown school"
            event = f"missing ({reason})" if reason else "missing"
            self.result.tell("students", "missing", Finding("students", ssid, event), line.text)
            return
        district, institution = (str(stored.get(key) or "") for key in ("districtIdentifier", "institutionIdentifier"))
        unlinked = [
            kind
            for kind, identity in (("district", district), ("institution", institution))
            if not await self._exists("district" if kind == "district" else "institution", identity)
        ]
        different = self._different(student, stored)
        if unlinked or different:
            events = [f"its {kind} does not exist" for kind in unlinked]
            events += [f"differs in {key}" for key in different]
            finding = Finding("students", ssid, "; ".join(events), district, institution)
            self.result.tell("students", "unlinked" if unlinked else "different", finding)
        else:
            self.result.tell("students", "equal")

    async def _exists(self, kind: Kind, entity_id: str) -> bool:
        if (kind, entity_id) not in self._known:
            found = await self._patience.run(lambda: self._client.find(kind, entity_id)) if entity_id else None
            self._known[kind, entity_id] = found is not None
        return self._known[kind, entity_id]

    @staticmethod
    def _different(wanted: Mapping[str, Any], stored: Mapping[str, Any]) -> list[str]:
        """The properties that differ, apart from how ART writes them: null for a blank, codes in another case."""
        folded = {"sex", "languageCode", "primaryDisabilityType"}
        different = []
        for key, value in wanted.items():
            ours, theirs = value or "", stored.get(key) or ""
            if key in folded:
                ours, theirs = str(ours).lower(), str(theirs).lower()
            if ours != theirs and not (key == "districtIdentifier" and not ours):
                different.append(key)
        return different
