"""What a user of the fan-out would miss."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.chunks.frames import Data, encode
from headrace.datasets.catalogue import Datasets
from headrace.kafka.admin import create_missing
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import watermarks
from headrace.proof.groups import positions
from headrace_files.csv_fanout.arriving import Arriving
from headrace_files.csv_fanout.publishing import MOST_IN_HAND
from headrace_files.csv_fanout.service import CsvFanout
from headrace_files.csv_fanout.settings import CsvFanoutSettings
from tests.support import records
from tests.support.dead import as_json, headrace
from tests.support.feeding import FedFile, Feeder
from tests.support.feeds import declare
from tests.support.processes import Service
from tests.support.running import dead_letters, header, new_cluster, receipts_on_log, running
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka

HEADER = b"a,b,c"
POINTS = (
    "csv_fanout.after-spool",
    "csv_fanout.in-the-middle-of-publishing",
    "csv_fanout.in-the-middle-of-publishing:3",
    "csv_fanout.before-end-markers",
    "csv_fanout.after-end-markers-before-receipt",
    "loop.after-effect-before-receipt",
    "loop.after-receipt-before-commit",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of datasets of one's own: `feed`, and `shrinking`, which may not lose more than a tenth."""
    place = tmp_path / "datasets"
    for name, rules in (("feed", "bad_rows = 10"), ("shrinking", "shrink = 0.1")):
        declare(place, name, "abc", rules=rules, extra='quoting = "none"')
    return place


@pytest.fixture
def datasets(folder: Path) -> Datasets:
    return Datasets(folder)


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str, datasets: Datasets) -> Cluster:
    made = new_cluster(broker.bootstrap, prefix)
    create_missing(made, [dataset.topic for dataset in datasets.values()])
    return made


@pytest.fixture
def feeder(cluster: Cluster) -> Feeder:
    return Feeder(cluster)


def rows(count: int, seed: int = 1, bad: int = 0) -> bytes:
    """A file of `count` rows, of which `bad` have a field too few."""
    rng = random.Random(seed)
    lines = [b"%d,%d,x%d" % (line, rng.randrange(10**9), seed) for line in range(count)]
    for line in rng.sample(range(count), bad):
        lines[line] = lines[line].rpartition(b",")[0]
    return b"\n".join([HEADER, *lines, b""])


def fed(name: str, content: bytes, dataset: str | None = "feed", **more: object) -> FedFile:
    return FedFile(name.encode(), content, dataset=dataset, **more)  # type: ignore[arg-type]


def send(feeder: Feeder, *files: FedFile) -> None:
    for number, file in enumerate(files):
        feeder.send(file, *([file.whole()] if len(file.content) < 4096 and number % 2 else file.frames()))
    feeder.flush()


def outcomes(cluster: Cluster) -> dict[str, list[tuple[str, int, str | None]]]:
    return {
        ack.item: [(each.outcome, each.count, each.code) for each in ack.covers] for ack in receipts_on_log(cluster)
    }


def check(cluster: Cluster, datasets: Datasets, *files: FedFile, dataset: str = "feed") -> list[str]:
    contents = {file.item: file.content for file in files}
    prefix = cluster.settings.prefix
    return records.check(cluster.bootstrap, prefix, dataset, datasets[dataset].schema, contents)


@pytest.fixture
def fan_out(cluster: Cluster, datasets: Datasets, tmp_path: Path) -> Iterator[object]:
    def make(**settings: object) -> CsvFanout:
        return CsvFanout(CsvFanoutSettings(**{"spool": tmp_path / "spool", **settings}), cluster, datasets)  # type: ignore[arg-type]

    yield make
    assert not list((tmp_path / "spool").iterdir()), "something was left in the spool"


def test_every_line_is_a_record_or_a_dead_letter_and_the_receipt_says_which(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    files = [
        fed("large", rows(20_000, bad=7)),
        fed("small", rows(5, 2)),
        fed("empty", HEADER + b"\n"),
        fed("u", b"a,b,c\n1,\xc3\xa9,x"),
    ]
    send(feeder, *files)
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 4, within=30)
    assert check(cluster, datasets, *files) == []
    letter = next(each for each in dead_letters(cluster))
    assert header(letter, "dlq-error") == "wrong-columns"
    assert (
        header(letter, "dlq-message")
        == f"Line {header(letter, 'dlq-item').rpartition('/')[2]}: the row has 2 fields instead of 3."
    )
    assert outcomes(cluster)[files[2].item] == [("delivered", 0, None)]


def test_a_bad_row_is_listed_without_its_values_and_not_sent_back_as_if_it_were_a_frame(
    cluster: Cluster, feeder: Feeder, fan_out
) -> None:
    file = fed("file", HEADER + b"\n1,2,3\nSECRET,SECRET\n", job="nightly")
    feeder.send(file, *file.frames(), headers=[("hr-job", b"nightly")])
    feeder.flush()
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=30)
    (ack,) = receipts_on_log(cluster)
    assert ack.job == "nightly"
    (letter,) = dead_letters(cluster)
    assert header(letter, "hr-job") == "nightly"
    shown = headrace(cluster, "dlq", "show")[1]
    assert f"{file.item}/3" in shown
    assert "SECRET" not in shown
    code, output = headrace(cluster, "dlq", "redrive", "--json")
    assert code == 3
    told = as_json(output)
    assert (told["chosen"], told["stay"]["piece"], told["files_in_pieces"]) == (0, 1, [file.item])


def test_archives_come_out_as_the_rows_of_all_their_members(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.csv", rows(3000, 1))
        archive.writestr("two.csv", b"c,b,a\nx,y,key\nbad\n")
    both = fed("both.zip", out.getvalue())
    packed = fed("packed.zip", gzip.compress(rows(3000, 3)))
    send(feeder, both, packed)
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=30)
    assert outcomes(cluster)[both.item] == [("delivered", 3001, None), ("dead_lettered", 1, "wrong-columns")]
    found = records.on_the_log(cluster.bootstrap, cluster.settings.prefix, "feed", datasets["feed"].schema)
    assert len(found[packed.item].records) == 3000
    assert found[both.item].records[3003] == {"job": None, "a": "key", "b": "y", "c": "x"}
    assert found[both.item].dead == {3004: b"bad"}


def test_files_of_no_dataset_and_of_others_are_passed_by_with_a_receipt_and_hold_nothing_up(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    other = [fed("plain", b"no csv" * 5000, None), fed("other", rows(10), "readings"), fed("open", rows(10), None)]
    ours = fed("sub/ours-2026.csv", rows(10), None)
    feeder.send(other[2], *other[2].frames()[:-1])
    send(feeder, *other[:2], ours)
    with running(fan_out(datasets=["feed"], paths={"feed": r"ours-\d+"}), cluster) as loop:
        wait_until(lambda: len(receipts_on_log(cluster)) == 4, within=30)
        group = loop.loop.group
    assert check(cluster, datasets, ours) == []
    assert {outcome for file in other for outcome in outcomes(cluster)[file.item]} == {("unchanged", 1, "no-dataset")}
    messages = sum(len(feeder.offsets[file.file]) for file in (*other, ours))
    assert sum(positions(cluster)[group]["chunks"].values()) == messages


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a,b\n1,2\n", "header-mismatch"),
        (b"", "no-header"),
        (b"PK\x03\x04 this is no zip", "damaged-archive"),
        (gzip.compress(rows(5000))[:-20], "damaged-archive"),
        (HEADER + b"\nx\n" * 11, "too-many-bad-rows"),
    ],
)
def test_a15_a_file_that_cannot_be_trusted_is_put_aside_and_nothing_of_it_is_published(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out, content: bytes, code: str
) -> None:
    bad, good = fed("bad", content), fed("good", rows(10))
    send(feeder, bad, good)
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=30)
    assert outcomes(cluster)[bad.item] == [("dead_lettered", 1, code)]
    assert check(cluster, datasets, good) == []
    (letter,) = dead_letters(cluster)
    assert letter.value() == bad.open()


def test_a_bug_in_a_frame_of_an_open_file_closes_it_and_leaves_nothing_of_it_behind(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = fed("met", rows(2000))
    names = (fed(f"other {number}", rows(2000, 2)) for number in range(50))
    other = next(each for each in names if feeder.partition(each) != feeder.partition(file))
    add = Arriving.add

    def failing(arriving: Arriving, frame: Data) -> None:
        add(arriving, frame)
        if arriving.item == file.item and frame.i == 3:
            raise ZeroDivisionError

    monkeypatch.setattr(Arriving, "add", failing)
    # There is room for one of them only.
    with running(fan_out(spool_size=len(file.content) + 1000), cluster):
        feeder.send(file, *file.frames())
        feeder.flush()
        wait_until(lambda: file.item in outcomes(cluster), within=20)
        feeder.send(other, *other.frames())
        feeder.flush()
        wait_until(lambda: other.item in outcomes(cluster), within=20)
    assert outcomes(cluster)[file.item] == [("dead_lettered", 1, "unexpected")]
    assert check(cluster, datasets, other) == []


def test_a_dataset_that_nobody_declared_is_a_dead_letter(cluster: Cluster, feeder: Feeder, fan_out) -> None:
    file = fed("file", rows(10), "unheard_of")
    send(feeder, file)
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=30)
    assert outcomes(cluster) == {file.item: [("dead_lettered", 1, "undeclared-dataset")]}


def test_wrong_bytes_are_asked_for_again_and_an_aborted_version_is_no_failure(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    wrong, gone = fed("wrong", rows(2000)), fed("gone", rows(2000))
    other = fed("wrong", wrong.content.replace(b"x1", b"x2"))
    feeder.send(wrong, wrong.open(), *wrong.data(), other.close())
    feeder.send(gone, gone.open(), *gone.data()[:2], gone.abort())
    feeder.flush()
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=30)
    assert outcomes(cluster) == {
        wrong.item: [("failed", 1, "hash-mismatch")],
        gone.item: [("unchanged", 1, "aborted")],
    }
    assert check(cluster, datasets) == []


def test_what_was_verified_is_what_is_published_when_a_frame_comes_again_with_other_bytes(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    file = fed("again.csv", rows(2000))
    other = encode(Data(v=1, i=1, off=100, b=memoryview(file.content[100:400].replace(b"1", b"2"))))
    feeder.send(file, file.open(), *file.data(), other, file.close())
    feeder.flush()
    with running(fan_out(), cluster):
        wait_until(lambda: file.item in outcomes(cluster), within=20)
    assert check(cluster, datasets, file) == []


def test_a_dump_that_shrank_is_refused_until_somebody_accepts_it(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    monday = fed("monday", rows(1000, 1), "shrinking")
    elsewhere = fed("elsewhere", rows(10, 2), "shrinking", source="another")
    tuesday = fed("tuesday", rows(910, 3), "shrinking")
    wednesday = fed("wednesday", rows(800, 4), "shrinking")
    for done, file in enumerate((monday, elsewhere, tuesday, wednesday), 1):
        # Each copy is a new process as far as this rule goes: it knows only what the log says.
        send(feeder, file)
        with running(fan_out(), cluster):
            wait_until(lambda done=done: len(receipts_on_log(cluster)) == done, within=30)
    assert outcomes(cluster)[wednesday.item] == [("dead_lettered", 1, "shrunk")]
    assert check(cluster, datasets, monday, elsewhere, tuesday, dataset="shrinking") == []
    again = fed("wednesday", wednesday.content, "shrinking", attempt=1)
    send(feeder, again)
    with running(fan_out(allow_shrink=True), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 5, within=30)
    assert check(cluster, datasets, monday, elsewhere, tuesday, again, dataset="shrinking") == []


def test_an_older_version_that_ends_late_is_not_published_over_the_newer_one(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    old = fed("versions", rows(2000, 1), ctime_ns=1_000)
    new = fed("versions", rows(2000, 2), ctime_ns=2_000)
    feeder.send(old, *old.frames()[:-1])
    feeder.send(new, *new.frames())
    feeder.send(old, old.close())
    feeder.flush()
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 2, within=30)
    assert outcomes(cluster)[old.item] == [("unchanged", 1, "superseded")]
    assert check(cluster, datasets, new) == []


def test_a_small_spool_holds_files_up_but_loses_none_and_a_larger_file_is_put_aside(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    files = [fed(f"file-{number}", rows(3000, number)) for number in range(12)]
    most = max(len(file.content) for file in files)
    huge = fed("huge", rows(9000))
    # Frames of all of them interleave, so several of a partition are open at once.
    for step in range(len(huge.frames())):
        for file in (*files, huge):
            feeder.send(file, *file.frames()[step : step + 1])
    feeder.flush()
    with running(fan_out(spool_size=int(1.2 * most)), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 13, within=60)
    assert outcomes(cluster)[huge.item] == [("dead_lettered", 1, "larger-than-spool")]
    assert check(cluster, datasets, *files) == []


def test_two_copies_share_the_files(cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out) -> None:
    files = [fed(f"file-{number}", rows(500, number)) for number in range(20)]
    with running(fan_out(), cluster, instance="one"), running(fan_out(), cluster, instance="two"):
        send(feeder, *files)
        wait_until(lambda: len(receipts_on_log(cluster)) == 20, within=60)
    assert check(cluster, datasets, *files) == []


@pytest.mark.parametrize("point", POINTS)
def test_a_fan_out_that_is_killed_loses_no_line_and_its_successor_says_the_same(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, folder: Path, tmp_path: Path, point: str
) -> None:
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_DATASETS__FOLDER": str(folder),
        "HEADRACE_STATE": str(tmp_path / "state"),
    }
    service = Service("fan-out", tmp_path, ["fan-out", "--sink", "test"], environment)
    first, second = fed("first", rows(9000, 1, bad=3)), fed("second", rows(300, 2))
    send(feeder, first)
    service.start(kill_point=point)
    service.await_point()
    send(feeder, second)
    service.kill()
    service.start()
    wait_until(lambda: len({ack.item for ack in receipts_on_log(cluster)}) == 2, within=30)
    service.stop()
    assert check(cluster, datasets, first, second) == []


def test_one_that_slept_past_its_session_publishes_nothing_of_what_another_has_finished(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, folder: Path, tmp_path: Path
) -> None:
    environment = {
        "HEADRACE_KAFKA__BOOTSTRAP": cluster.bootstrap,
        "HEADRACE_KAFKA__PREFIX": cluster.settings.prefix,
        "HEADRACE_DATASETS__FOLDER": str(folder),
        "HEADRACE_STATE": str(tmp_path / "state"),
        "HEADRACE_CSV_FANOUT__SESSION_TIMEOUT": "6s",
    }
    sleeper, other = (Service(name, tmp_path, ["fan-out"], environment) for name in ("sleeper", "other"))
    file, later = fed("file", rows(300_000)), fed("later", rows(100, 2))
    send(feeder, file)
    sleeper.start()
    wait_until(lambda: published(cluster, datasets) > 0, within=30)
    sleeper.pause()
    other.start()
    wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=60)
    before = published(cluster, datasets)
    sleeper.wake()
    send(feeder, later)
    wait_until(lambda: len({ack.item for ack in receipts_on_log(cluster)}) == 2, within=60)
    for service in (sleeper, other):
        service.stop()
    # What its client had in hand when it fell asleep may still come; whole blocks of rows may not.
    assert published(cluster, datasets) - before < MOST_IN_HAND + 5_000
    assert check(cluster, datasets, file, later) == []


def published(cluster: Cluster, datasets: Datasets) -> int:
    """Messages on the topic of the dataset."""
    topic = datasets["feed"].topic
    reader = cluster.consumer(None)
    name = cluster.topic_name(topic)
    ends = [watermarks(cluster, reader, name, number)[1] for number in range(cluster.partitions(topic, reader))]
    reader.close()
    return sum(ends)


def test_the_oracle_sees_a_lost_line_and_a_forged_one(
    cluster: Cluster, feeder: Feeder, datasets: Datasets, fan_out
) -> None:
    file = fed("file", rows(100, bad=2))
    send(feeder, file)
    with running(fan_out(), cluster):
        wait_until(lambda: len(receipts_on_log(cluster)) == 1, within=30)
    assert check(cluster, datasets, file) == []
    longer = fed("file", file.content + b"x,y,z\n")
    longer.inode = file.inode
    contents = {file.item: longer.content}
    schema = datasets["feed"].schema
    lost = records.check(cluster.bootstrap, cluster.settings.prefix, "feed", schema, contents)
    assert any("1 lines lost" in problem for problem in lost)
    assert any("receipt covers other lines" in problem for problem in lost)
    changed = {file.item: file.content.replace(b",x1\n", b",x9\n", 1)}
    wrong = records.check(cluster.bootstrap, cluster.settings.prefix, "feed", schema, changed)
    assert any("other values in ['c']" in problem for problem in wrong)
    assert records.check(cluster.bootstrap, cluster.settings.prefix, "feed", schema, {}) == [
        f"records of a file that was not sent: {file.item}"
    ]
