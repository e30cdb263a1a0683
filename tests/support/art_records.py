"""Records of the ART datasets as the fan-out would put them on the log: lines of a file, closed by end markers."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyroaring import BitMap64

from headrace.codec import avro
from headrace.datasets.catalogue import Datasets
from headrace.datasets.encoding import prefix, zigzag
from headrace.events import EndMarker
from headrace.topics import Topic
from headrace_art.topics import ENTITIES, Entity

DATASETS = Datasets()

DISTRICT, SCHOOL, CDS = "9900123", "0456789", "99001230456789"

STUDENT = {
    "FirstName": "Maria", "LastOrSurname": "Oliveira", "Sex": "Female", "DateofBirth": "2009-11-30",
    "ResponsibleDistrictIdentifier": DISTRICT, "ResponsibleSchoolIdentifier": SCHOOL,
    "GradeLevelWhenAssessed": "07", "StateAbbreviation": "CA",
}  # fmt: skip

Message = tuple[Topic, bytes, bytes, int]


def student(ssid: str, **changes: str) -> dict[str, str]:
    """A row of the dump that ART takes."""
    return {**STUDENT, "SSID": ssid, "SmarterStudentID": f"S{ssid}", **changes}


def district(number: int) -> dict[str, str]:
    """A row of the schools file that is a district, and a school as well."""
    code = f"{1_000_000 + number}"
    return {
        "County-District Code": code, "School Code": code, "Auth CDS Code": f"{code}0000000",
        "District Name": f"District {number}", "School Name": f"District {number}",
    }  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One partition's part of a file; line numbers from 2, as those of a file with a header."""

    name: str
    dataset: str
    rows: Sequence[Mapping[str, str]]
    partition: int = 0
    job: str | None = None

    @property
    def file(self) -> bytes:
        """Its id."""
        return hashlib.blake2b(self.name.encode(), digest_size=16).digest()

    @property
    def item(self) -> str:
        """What its receipt is called."""
        return f"{self.file.hex()}/{self.partition}"

    @property
    def topic(self) -> Topic:
        """The dataset's."""
        return DATASETS[self.dataset].topic

    def record(self, number: int) -> Message:
        """The record of one row."""
        dataset = DATASETS[self.dataset]
        values = [self.rows[number].get(column.name, "") for column in dataset.declaration.columns]
        begin = prefix(dataset.header, self.job, self.file) + zigzag(number + 2)
        value = begin + dataset.encoder.body(values, number + 2, ascii_only=False)
        return self.topic, dataset.encoder.key(values, number + 2).encode(), value, self.partition

    def records(self) -> list[Message]:
        """All of them."""
        return [self.record(number) for number in range(len(self.rows))]

    def marker(self) -> Message:
        """The end of the part."""
        lines = BitMap64(range(2, 2 + len(self.rows)))
        event = EndMarker(
            job=self.job, file=self.file, dataset=self.dataset, lines=bytes(lines.serialize()), count=len(lines),
            part=0, parts=1, total=len(lines), source="test", path=self.name.encode(), at=time.time_ns() // 1000,
        )  # fmt: skip
        return self.topic, self.file.hex().encode(), avro.encode(event), self.partition

    def whole(self) -> list[Message]:
        """Records and end."""
        return [*self.records(), self.marker()]


def confirmed_school() -> Message:
    """What the stage of entities says of the school of `student`."""
    entity = Entity(
        kind="institution", entity_id=CDS, name="Otter Creek", parent_id=f"{DISTRICT}0000000", state="CA",
        codes=[f"{DISTRICT}/{SCHOOL}"], file=bytes(16), at=1,
    )  # fmt: skip
    return ENTITIES, f"{CDS}/institution".encode(), avro.encode(entity), 0
