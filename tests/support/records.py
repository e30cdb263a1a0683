"""The oracle of records: what a file's lines must have become, recomputed from raw topics, with no code of Headrace.

Each good line must be a record before its partition's end marker, each bad one a dead letter, and the receipt must say
just that. Lines that come again must be the same. What it finds wrong it says in words.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import fastavro
from pyroaring import BitMap64

from tests.support import oracle


@dataclass
class Lines:
    """What the log says of one file."""

    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    keys: dict[int, bytes] = field(default_factory=dict)
    partitions: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    markers: dict[int, set[int]] = field(default_factory=dict)
    totals: set[int] = field(default_factory=set)
    dead: dict[int, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    repeats: int = 0


def on_the_log(bootstrap: str, prefix: str, dataset: str, schema: Any) -> dict[str, Lines]:
    """What is on the dataset's topic and among the dead letters, by file id."""
    parsed = fastavro.parse_schema(schema)
    marker = fastavro.parse_schema(oracle.schema_named("EndMarker"))
    found: defaultdict[str, Lines] = defaultdict(Lines)
    for message in oracle.messages(bootstrap, f"{prefix}records.{dataset}"):
        raw, partition = message.value() or b"", message.partition() or 0
        body = BytesIO(raw[oracle.SINGLE_OBJECT_HEADER :])
        if len(message.key() or b"") == 32 and _is_marker(raw, marker):
            end: Any = fastavro.schemaless_reader(body, marker, None)
            lines = found[end["file"].hex()]
            said = set(BitMap64.deserialize(end["lines"]))
            if said != lines.partitions[partition]:
                lines.problems.append(f"partition {partition} is closed with other lines than it has")
            if len(said) != end["count"]:
                lines.problems.append(f"partition {partition} is closed with a wrong count")
            lines.markers[partition] = said
            lines.totals.add(end["total"])
            continue
        record: Any = fastavro.schemaless_reader(body, parsed, None)
        file, line = record.pop("file").hex(), record.pop("line")
        lines = found[file]
        if lines.records.setdefault(line, record) != record:
            lines.problems.append(f"line {line} came with two contents")
        if line in lines.keys:
            lines.repeats += 1
        if partition in lines.markers and line not in lines.markers[partition]:
            lines.problems.append(f"line {line} came after its partition was closed without it")
        lines.keys[line] = message.key() or b""
        lines.partitions[partition].add(line)
    for letter in oracle.messages(bootstrap, f"{prefix}dead-letters"):
        headers = dict(letter.headers() or ())
        file, _, line = headers["dlq-item"].decode().partition("/")
        if line:
            found[file].dead[int(line)] = letter.value() or b""
    return dict(found)


def _is_marker(raw: bytes, schema: Any) -> bool:
    mark = fastavro.schema.fingerprint(fastavro.schema.to_parsing_canonical_form(schema), "CRC-64-AVRO")
    return raw[2:10] == bytes.fromhex(mark)


def check(
    bootstrap: str,
    prefix: str,
    dataset: str,
    schema: Any,
    files: Mapping[str, bytes],
    delimiter: bytes = b",",
    partitions: int = 3,
) -> list[str]:
    """What is wrong with the records of plain files: every line with as many fields as the header must be one.

    Parameters:
        files: content by file id.
    """
    wrong = []
    said = on_the_log(bootstrap, prefix, dataset, schema)
    acks = {ack["item"]: ack for ack in oracle.avro_records(bootstrap, f"{prefix}upload-acks", "UploadAck")}
    for file, content in files.items():
        header, *rows = content.splitlines()
        width = header.count(delimiter)
        good = {line: row for line, row in enumerate(rows, 2) if row.count(delimiter) == width}
        bad = {line: row for line, row in enumerate(rows, 2) if line not in good}
        lines = said.get(file, Lines())
        wrong += [f"{file}: {problem}" for problem in lines.problems]
        if set(lines.records) != set(good):
            lost, extra = set(good) - set(lines.records), set(lines.records) - set(good)
            wrong.append(
                f"{file}: {len(lost)} lines lost {sorted(lost)[:5]}, {len(extra)} too many {sorted(extra)[:5]}"
            )
        names = [name.decode().strip() for name in header.split(delimiter)]
        for line, row in good.items():
            cells = dict(zip(names, row.decode().split(delimiter.decode()), strict=True))
            record = lines.records.get(line, {})
            different = [name for name, cell in cells.items() if name in record and str(record[name]) != cell]
            if different:
                wrong.append(f"{file}: line {line} has other values in {different}")
        if lines.dead != bad:
            wrong.append(f"{file}: dead letters of lines {sorted(lines.dead)} instead of {sorted(bad)}")
        if len(lines.markers) != partitions:
            wrong.append(f"{file}: {len(lines.markers)} end markers instead of {partitions}")
        if lines.totals != {len(good)}:
            wrong.append(f"{file}: its end markers say {lines.totals} records in all, not {len(good)}")
        wrong += _check_receipt(file, acks.get(file), set(good), set(bad))
    wrong += [f"records of a file that was not sent: {file}" for file in said.keys() - files.keys()]
    return wrong


def _check_receipt(file: str, ack: Any, good: set[int], bad: set[int]) -> list[str]:
    if ack is None:
        return [f"{file}: no receipt"]
    covered: defaultdict[str, set[int]] = defaultdict(set)
    for covers in ack["covers"]:
        if covers["lines"] is None:
            return [f"{file}: a receipt without lines: {covers['outcome']} {covers['code']}"]
        lines = set(BitMap64.deserialize(covers["lines"]))
        if len(lines) != covers["count"] or lines & covered[covers["outcome"]]:
            return [f"{file}: a receipt that does not add up"]
        covered[covers["outcome"]] |= lines
    if covered["delivered"] != good or covered["dead_lettered"] != bad:
        return [f"{file}: the receipt covers other lines"]
    return []
