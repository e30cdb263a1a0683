"""Dead letters: the bytes of a message that cannot be handled, its coordinates, and the reason.

The headers hold no personal data: codes, coordinates and the error's own words. Source: design section 3.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from headrace.errors import HeadraceError
from headrace.jobs.ids import is_job_id
from headrace.topics import CHUNKS

REDRIVE_FOR = "hr-redrive-for"
ORIGIN_PARTITION = "dlq-origin-partition"
ORIGIN_OFFSET = "dlq-origin-offset"
FIRST_OFFSET = "dlq-first-offset"
NEWEST = "dlq-newest"
ATTEMPT = "dlq-attempt"
FIRST_FAILED = "dlq-first-failed"
JOB = "hr-job"
CARRIED = (JOB, "traceparent")
"""Headers of the original that go with it into the dead letters and out again; others might hold personal data."""

LONGEST_MESSAGE = 500


def unreadable_item(topic: str, partition: int, offset: int) -> str:
    """The item of a dead letter that names none of its own: a frame among many, or a message without a readable key.

    A receipt under the file's name would cover the file's other frames too, and lose them.

    Parameters:
        topic: without the prefix. A group may read several; of `chunks`, the name says nothing of it.
    """
    place = f"{partition}:{offset}"
    return f"dead:{place}" if topic == CHUNKS.name else f"dead:{topic}:{place}"


def first_offset(headers: Sequence[tuple[str, bytes]], offset: int) -> int:
    """The offset at which a message first came: a re-driven one says so, any other came where it is, at `offset`.

    What is re-driven is as old as it was: an old version of a file must not look newer for having failed.
    """
    for name, value in headers:
        if name == FIRST_OFFSET and value is not None and value.isdigit() and len(value) < 20:
            return min(int(value), offset)
    return offset


def headers(
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    service: str,
    stage: str,
    error: HeadraceError,
    item: str,
    original: Sequence[tuple[str, bytes]],
    job: str | None = None,
) -> list[tuple[str, bytes]]:
    """The headers of a dead letter, all UTF-8 text.

    Parameters:
        topic: name on the wire, as `partition` and `offset` the place the message was read from.
        timestamp: of the message, milliseconds since the epoch.
        service: the consumer group; `stage`: the stage's name.
        original: headers of the message; an earlier attempt's count and first failure are carried on.
        job: that its value names, for a message without such a header; what is no id of a job is left out.
    """
    known = {name: value for name, value in original if value is not None}
    if job is not None and is_job_id(job):
        known.setdefault(JOB, job.encode())
    before = known.get(ATTEMPT, b"0")
    attempt = int(before) + 1 if before.isdigit() and len(before) < 10 else 1
    now = str(time.time_ns() // 1_000_000).encode()
    result = [
        ("dlq-topic", topic.encode()),
        ("dlq-partition", str(partition).encode()),
        ("dlq-offset", str(offset).encode()),
        ("dlq-timestamp", str(timestamp).encode()),
        ("dlq-service", service.encode()),
        ("dlq-stage", stage.encode()),
        ("dlq-error", error.code.encode()),
        ("dlq-message", str(error)[:LONGEST_MESSAGE].encode("utf-8", "replace")),
        (ATTEMPT, str(attempt).encode()),
        (FIRST_FAILED, known.get(FIRST_FAILED, now)),
        (FIRST_OFFSET, str(first_offset(original, offset)).encode()),
        ("dlq-item", item.encode("utf-8", "replace")),
    ]
    result += [(name, known[name]) for name in CARRIED if name in known]
    return result
