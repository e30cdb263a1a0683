"""The oracle of books: how many versions of files stand where in each group, recomputed from raw events and receipts.

Of Headrace's own arithmetic it knows where a key belongs, and no more; `headrace verify` and the ledger are held
against it. Decisions on dead letters are not its subject.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import fastavro

from headrace.keys import partition_of
from tests.support.oracle import SINGLE_OBJECT_HEADER, avro_records, messages, partition_count, schema_named

OUTCOMES = ("delivered", "unchanged", "dead_lettered", "held", "failed")
BAD = ("failed", "dead_lettered", "held")
WORST_FIRST = (*BAD, "delivered", "unchanged")
FILE_ID = re.compile(r"[0-9a-f]{32}")
RANK = {"delivered": 2, "unchanged": 1}

Said = tuple[int, int, int, str, bytes | None]
"""A receipt: how good it is, its last offset, when, its outcome, the hash that it confirms."""


@dataclass
class Book:
    """One group's sums; `settled` are those among the bad ones that a later attempt made good."""

    counts: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)

    @property
    def sent(self) -> int:
        return self.counts.total()


@dataclass
class Told:
    """Everything that sources and groups said of files: the last word and the best receipt count."""

    events: dict[str, dict[str, Any]]
    receipts: Mapping[str, dict[str, Said]]
    dead: Mapping[str, set[str]]
    jobs: Mapping[str, str]
    """The job that a receipt of a version names; a sender that died may never have said anything of it."""

    def outcome(self, group: str, file: str) -> str | None:
        """What became of a version in a group; None: nothing yet."""
        event = self.events.get(file)
        state = None if event is None else event["state"]
        said = self.receipts.get(group, {}).get(file)
        if said is not None:
            forged = event is not None and None not in (event["hash"], said[4]) and event["hash"] != said[4]
            return "failed" if forged and said[3] == "delivered" else said[3]
        if file in self.dead.get(group, ()) and state != "sending":
            return "dead_lettered"
        return {"aborted": "unchanged", "expired": "failed"}.get(state or "")

    def settled(self, group: str, file: str) -> bool:
        """Whether a later attempt of a version is good there."""
        event = self.events.get(file)
        return event is not None and any(
            self.outcome(group, other) in RANK
            for other, later in self.events.items()
            if later["attempt"] > event["attempt"] and _content(later) == _content(event)
        )

    def book(self, group: str, job: str | None = None) -> Book:
        """The sums of a group: of all that was begun and all that only receipts know, or of what a job finished."""
        files = self.events.keys() | self.receipts.get(group, {}).keys() | self.dead.get(group, set())
        if job is not None:
            files = {file for file in files if self._counts(group, file, job)}
        found = Book()
        for file in files:
            outcome = self.outcome(group, file) or "open"
            found.counts[outcome] += 1
            if (outcome in BAD or outcome == "open") and self.settled(group, file):
                found.settled[outcome] += 1
        return found

    def _counts(self, group: str, file: str, job: str) -> bool:
        event = self.events.get(file, {"job": self.jobs.get(file), "state": "sending"})
        # A receipt may be faster than the announcement.
        return event["job"] == job and (event["state"] != "sending" or self.outcome(group, file) is not None)


def _content(event: dict[str, Any]) -> tuple[object, ...]:
    return event["path_id"], event["inode"], event["size"], event["mtime_ns"]


def told(bootstrap: str, prefix: str) -> Told:
    """Read it all from the raw topics."""
    events: dict[str, dict[str, Any]] = {}
    for event in avro_records(bootstrap, f"{prefix}files", "FileEvent"):
        file = event["file"].hex()
        if event["state"] != "sending" or events.get(file, event)["state"] == "sending":
            events[file] = event
    schema = fastavro.parse_schema(schema_named("UploadAck"))
    receipts: defaultdict[str, dict[str, Said]] = defaultdict(dict)
    dead: defaultdict[str, set[str]] = defaultdict(set)
    jobs: dict[str, str] = {}
    count = partition_count(bootstrap, f"{prefix}upload-acks")
    for message in messages(bootstrap, f"{prefix}upload-acks"):
        value = message.value() or b""
        if not value:
            _, group, item = (message.key() or b"").decode().split("/")
            receipts[group].pop(item, None)
            continue
        ack: Any = fastavro.schemaless_reader(BytesIO(value[SINGLE_OBJECT_HEADER:]), schema, None)
        item, file = ack["item"], ack["file"]
        if file is not None and ack["job"] is not None:
            jobs[file.hex()] = ack["job"]
        if item.startswith("dead:") and file is not None:
            # In another partition than its key's it is nobody's.
            if partition_of((message.key() or b"").decode().split("/")[0], count) == message.partition():
                dead[ack["group"]].add(file.hex())
        elif FILE_ID.fullmatch(item):
            outcome = min((covers["outcome"] for covers in ack["covers"]), key=WORST_FIRST.index)
            said = (RANK.get(outcome, 0), ack["last"], ack["at"], outcome, ack["hash"])
            known = receipts[ack["group"]].get(item)
            receipts[ack["group"]][item] = said if known is None else max(known, said, key=lambda each: each[:4])
    return Told(events, receipts, dead, jobs)


def wrong_in_verify(found: Told, summary: Mapping[str, Any]) -> list[str]:
    """What the summary of `headrace verify --json` has otherwise."""
    groups = summary["groups"]
    wrong = [f"verify knows nothing of {group}" for group in found.receipts if group not in groups]
    for group, said in groups.items():
        book = found.book(group)
        mine = {name: book.counts[name] for name in OUTCOMES}
        mine |= {"sent": book.sent, "open": book.counts["open"], "settled": book.settled.total()}
        theirs = {name: said[name] for name in mine} | {"open": said["open"] + said["missing"]}
        if theirs != mine:
            wrong.append(f"{group}: verify says {theirs}, the raw topics {mine}")
    return wrong


def wrong_in_job(found: Told, job: Mapping[str, Any], groups: set[str]) -> list[str]:
    """What the ledger's last entry of a job has otherwise, for the groups that must have everything."""
    entries = {book["group"]: book for book in job.get("books", ())}
    wrong = [f"the ledger keeps no book of {group}" for group in groups - entries.keys()]
    for group in groups & entries.keys():
        mine, theirs = job_book(found, job["job"], group), dict(entries[group])
        del theirs["group"]
        if {**theirs, "missing": 0} != mine:
            wrong.append(f"{group}: the ledger says {json.dumps(theirs)}, the raw topics {json.dumps(mine)}")
    return wrong


def job_book(found: Told, job: str, group: str) -> dict[str, int]:
    """The book of a group in a job: what a later attempt made good need not be done any more."""
    book = found.book(group, job)
    counts = book.counts - book.settled
    counts["unchanged"] += book.settled.total()
    return {"expected": book.sent} | {name: counts[name] for name in OUTCOMES} | {"missing": counts["open"]}
