"""A dump that is fetched as a job: its books balance line by line, and every line that was put aside is named."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.datasets.catalogue import Datasets
from headrace.kafka.admin import create_missing
from tests.support import oracle, records, sent
from tests.support.feeds import declare
from tests.support.jobs import Site, books_from_raw, check_books
from tests.support.running import new_cluster
from tests.support.sftp import FaultySftp

pytestmark = pytest.mark.kafka

ROWS = 5000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FaultySftp]:
    server = FaultySftp(tmp_path / "server")
    yield server
    server.stop()


def test_a_dump_with_bad_rows_balances_line_by_line_and_each_bad_one_is_named(
    broker: EmbeddedBroker, prefix: str, tmp_path: Path, server: FaultySftp
) -> None:
    folder = tmp_path / "datasets"
    declare(folder, "feed", "ab", rules="bad_rows = 10", extra='quoting = "none"')
    datasets = Datasets(folder)
    create_missing(new_cluster(broker.bootstrap, prefix), [dataset.topic for dataset in datasets.values()])
    bad = sorted(random.Random(3).sample(range(2, ROWS + 2), 7))
    rows = [b"%d" % line if line in bad else b"%d,%d" % (line, line * 7) for line in range(2, ROWS + 2)]
    (server.root / "dump.csv").write_bytes(b"\n".join([b"a,b", *rows, b""]))
    password = tmp_path / "password"
    password.write_text(server.password)
    password.chmod(0o600)
    places = {"HEADRACE_DATASETS__FOLDER": str(folder), "HEADRACE_CSV_FANOUT__SPOOL": str(tmp_path / "spool")}
    site = Site(broker.bootstrap, prefix, tmp_path / "machine", places)

    fetched = site.run(
        "fetch", "dump.csv", "--host", "127.0.0.1", "--port", str(server.port), "--user", server.user,
        "--password-file", password, "--fingerprint", server.fingerprint, "--settle", "0s", "--dataset", "feed",
        "--job", "night", "--to", "csv_fanout",
    )  # fmt: skip
    assert fetched.code == 3, fetched.text

    # The truth: the bytes that are on the log, the records, and the dead letters, read raw.
    group = f"{prefix}csv_fanout.records"
    content = sent.contents(broker.bootstrap, prefix)[b"dump.csv"][0]
    (file,) = site.announced("night")
    assert content is not None
    assert records.check(broker.bootstrap, prefix, "feed", datasets["feed"].schema, {file: content}) == []
    said = records.on_the_log(broker.bootstrap, prefix, "feed", datasets["feed"].schema)[file]
    assert len(said.records) + len(said.dead) == content.count(b"\n") - 1 == ROWS
    assert books_from_raw(site, "night", group)["dead_lettered"] == 1
    check_books(site, "night", group)

    (lines,) = json.loads(site.run("jobs", "show", "night", "--json").text)["lines"]
    assert (lines["lines"], lines["delivered"], lines["dead_lettered"]) == (ROWS, len(said.records), len(said.dead))
    assert [(each["line"], each["code"]) for each in lines["put_aside"]] == [(line, "wrong-columns") for line in bad]
    shown = site.run("jobs", "show", "night").text
    assert f"lines of dump.csv: {ROWS} = {ROWS - 7} delivered, 7 dead-lettered" in shown
    assert all(f"dead-lettered: line {line} of dump.csv (wrong-columns)" in shown for line in bad)

    listed = [json.loads(line) for line in site.run("dlq", "list", "--job", "night", "--json").text.splitlines()]
    named = {each["item"] for each in listed if "item" in each}
    assert named == {f"{file}/{line}" for line in said.dead} == {f"{file}/{line}" for line in bad}
    headers = [dict(letter.headers() or ()) for letter in oracle.messages(broker.bootstrap, f"{prefix}dead-letters")]
    assert {each["hr-job"] for each in headers} == {b"night"}
