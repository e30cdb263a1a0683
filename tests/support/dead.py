"""Dead letters in number, and what became of them, read from the raw topics."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from headrace import deadletter
from headrace.cli import run
from headrace.errors import PermanentError
from headrace.kafka.clients import Cluster
from headrace.keys import partition_of
from headrace.topics import CHUNKS, DEAD_LETTERS
from tests.support import oracle
from tests.support.feeding import FedFile


class Refused(PermanentError):
    """The test refuses it."""

    code = "test-refused"


def put_aside(cluster: Cluster, files: list[FedFile], group: str, *, attempt: int = 0) -> None:
    """Put whole frames of files aside, as the group's loop would."""
    producer = cluster.producer()
    count = cluster.partitions(CHUNKS)
    for offset, file in enumerate(files):
        partition = partition_of(file.path_id.hex(), count)
        original = [(deadletter.ATTEMPT, str(attempt).encode())] if attempt else []
        headers = deadletter.headers(
            topic=cluster.topic_name(CHUNKS), partition=partition, offset=offset, timestamp=0, service=group,
            stage="assembler", error=Refused(), item=file.item, original=original,
        )  # fmt: skip
        _send(producer, cluster.topic_name(DEAD_LETTERS), file.key, file.whole(), partition, headers)
    assert producer.flush(60) == 0


def _send(producer: Any, topic: str, key: bytes, value: bytes, partition: int, headers: Any = None) -> None:
    while True:
        try:
            producer.produce(topic, value, key, partition=partition, headers=headers)
        except BufferError:
            producer.poll(0.1)
            continue
        return


def sent_back(cluster: Cluster) -> Counter[str]:
    """How often each dead letter is on the chunks topic again, by its name, as `dlq` shows it."""
    found: Counter[str] = Counter()
    for message in oracle.messages(cluster.bootstrap, cluster.topic_name(CHUNKS)):
        headers = dict(message.headers() or ())
        if "dlq-origin-offset" in headers:
            found[f"{headers['dlq-origin-partition'].decode()}:{headers['dlq-origin-offset'].decode()}"] += 1
    return found


def headrace(cluster: Cluster, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and output of a command line, run in this process, which saves its start."""
    own = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        **(environment or {}),
    }
    out = io.TextIOWrapper(io.BytesIO(), write_through=True)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(out):
        for name, value in own.items():
            patch.setenv(name, value)
        code = run([str(argument) for argument in arguments])
    out.seek(0)
    return code, out.read()


def as_json(output: str) -> Any:
    """The one JSON document of several lines, or else the first line of JSON, that a command wrote among its logs."""
    start = output.rfind("\n{\n") + 1 if "\n{\n" in output else output.index("{")
    return json.JSONDecoder().raw_decode(output[start:])[0]
