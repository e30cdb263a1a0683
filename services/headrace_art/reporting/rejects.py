"""The rows of a load that are not at ART, read back from the log for the people who must mend them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyroaring import BitMap64

from headrace.codec.records import Record, decode_record
from headrace.datasets.catalogue import Dataset
from headrace.deadletters.letters import read_letters
from headrace.errors import PoisonError
from headrace.jobs.lines import Lines
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import offsets_at, read_now


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not at ART: `row` by column, or its bytes where it could not be read. `why` tells no value."""

    file: bytes
    line: int
    outcome: str
    code: str
    why: str
    row: Mapping[str, Any] | None = None
    raw: bytes | None = None


class Rejects:
    """Finds the rows of files by what the books say of their lines.

    Parameters:
        said: by file, what its fan-out and what its reader said of its lines.
        since: milliseconds since the epoch, before the first record of the files.
    """

    def __init__(self, cluster: Cluster, dataset: Dataset, said: Mapping[bytes, list[Lines]], since: int) -> None:
        self._cluster, self._dataset, self._since = cluster, dataset, since
        self._dead: dict[bytes, dict[int, str]] = {}
        self._held: dict[bytes, dict[int, str]] = {}
        for file, told in said.items():
            for lines in told:
                for (outcome, code), mine in lines.sets.items():
                    if outcome in ("dead_lettered", "held"):
                        place = self._dead if outcome == "dead_lettered" else self._held
                        place.setdefault(file, {}).update(dict.fromkeys(mine, code or outcome))
        self._names = {column.field: column.name for column in dataset.declaration.columns}

    def read(self) -> list[Reject]:
        """All of them by file and line; one whose bytes are gone from the log has only its place.

        Raises KafkaUnreachable, MissingTopic.
        """
        found: dict[tuple[bytes, int], Reject] = {}
        for each in (*self._letters(), *self._records()):
            found[each.file, each.line] = each
        for outcome, places in (("dead_lettered", self._dead), ("held", self._held)):
            for file, lines in places.items():
                for line, code in lines.items():
                    found.setdefault((file, line), Reject(file, line, outcome, code, ""))
        return [found[place] for place in sorted(found)]

    def _letters(self) -> Iterator[Reject]:
        if not self._dead:
            return
        records, chunks = (self._cluster.topic_name(each) for each in (self._dataset.topic, self._dataset.chunks))
        for letter, message in read_letters(self._cluster):
            value = message.value() or b""
            if letter.topic == records:
                record = self._record(value)
                code = None if record is None else self._dead.get(record.file, {}).get(record.line)
                if record is not None and code is not None:
                    yield Reject(record.file, record.line, "dead_lettered", code, letter.message, self._row(record))
            elif letter.topic == chunks:
                name, _, number = letter.item.partition("/")
                file = bytes.fromhex(name) if len(name) == 32 and set(name) <= set("0123456789abcdef") else b""
                line = int(number) if number.isdigit() else 0
                code = self._dead.get(file, {}).get(line)
                if code is not None:
                    yield Reject(file, line, "dead_lettered", code, letter.message, None, value)

    def _records(self) -> Iterator[Reject]:
        """Held rows are no dead letters; they stand among the records for as long as these are kept."""
        left = {file: BitMap64(lines) for file, lines in self._held.items()}
        if not left:
            return
        starts = offsets_at(self._cluster, self._dataset.topic, self._since)
        for batch in read_now(self._cluster, self._dataset.topic, starts=starts):
            for message in batch:
                record = self._record(message.value() or b"")
                if record is not None and record.line in left.get(record.file, ()):
                    code = self._held[record.file][record.line]
                    why = "ART has not confirmed the student's school"
                    yield Reject(record.file, record.line, "held", code, why, self._row(record))

    def _record(self, value: bytes) -> Record | None:
        try:
            found = decode_record(value, self._dataset.topic.schemas)
        except PoisonError:
            return None
        return found if isinstance(found, Record) else None

    def _row(self, record: Record) -> dict[str, Any] | None:
        try:
            fields = record.fields(self._dataset.readers)
        except PoisonError:
            return None
        return {self._names[name]: value for name, value in fields.items() if name in self._names}
