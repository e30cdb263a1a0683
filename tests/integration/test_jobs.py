"""Jobs as a user meets them: commands in processes of their own, on real Kafka, checked against the raw log."""

from __future__ import annotations

import itertools
import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from headrace.broker import EmbeddedBroker
from headrace.codec import avro
from headrace.events import Covers, UploadAck
from headrace.kafka.clients import Cluster
from headrace.keys import encode_key
from headrace.topics import UPLOAD_ACKS
from tests.support.jobs import Command, Site, books_from_raw, check_books
from tests.support.oracle import avro_records
from tests.support.running import new_cluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def cluster(broker: EmbeddedBroker, prefix: str) -> Cluster:
    return new_cluster(broker.bootstrap, prefix)


@pytest.fixture
def site(broker: EmbeddedBroker, cluster: Cluster, prefix: str, tmp_path: Path) -> Site:
    return Site(broker.bootstrap, prefix, tmp_path / "machine")


def make_files(folder: Path, count: int, size: int = 20_000, name: str = "file") -> list[Path]:
    folder.mkdir(exist_ok=True)
    files = [folder / f"{name}-{number}" for number in range(count)]
    for file in files:
        file.write_bytes(os.urandom(size))
    return files


def upload(site: Site, files: list[Path], job: str, *options: str, to: str = "assembler") -> Command:
    return site.start("upload", *files, "--job", job, "--to", to, *options)


def arrived(site: Site, files: list[Path]) -> bool:
    return all((site.root / file.name).read_bytes() == file.read_bytes() for file in files)


def test_an_upload_runs_what_it_needs_and_ends_when_its_books_balance(site: Site, tmp_path: Path):
    files = [*make_files(tmp_path / "in", 10), *make_files(tmp_path / "in", 2, 700_000, "large")]
    command = upload(site, files, "night", "--json")
    assert command.end() == 0, command.text
    assert arrived(site, files)
    last = command.objects[-1]
    assert (last["event"], last["state"], last["exit_code"]) == ("end", "balanced", 0)
    assert books_from_raw(site, "night", site.group)["delivered"] == 12
    check_books(site, "night", site.group)

    shown = site.run("jobs", "show", "night")
    assert f"{site.group}: 12 expected = 12 delivered" in shown.text
    assert "balanced" in site.run("jobs", "list").text


def test_the_same_job_started_again_sends_nothing_again(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 5)
    assert upload(site, files, "night").end() == 0
    sent = site.opened()
    entries = len(site.entries("night"))
    again = upload(site, files, "night")
    assert again.end() == 0, again.text
    assert site.opened() == sent
    assert len(site.entries("night")) == entries

    more = [*files, *make_files(tmp_path / "in", 2, name="new")]
    assert upload(site, more, "night").end() == 0
    assert sorted(site.opened().values()) == [1] * 7
    check_books(site, "night", site.group)


def test_the_same_job_started_twice_at_once_sends_each_file_once(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 60, 300_000)
    one, other = upload(site, files, "night"), upload(site, files, "night")
    assert one.end() == 0, one.text
    assert other.end() == 0, other.text
    assert sorted(site.opened().values()) == [1] * 60
    check_books(site, "night", site.group)


def test_a_job_killed_while_it_sends_goes_on_where_it_was(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 100, 500_000)
    first = upload(site, files, "night", "--n_threads", "1")
    first.await_line("sent file-3")
    first.kill()
    announced = site.announced("night")
    second = upload(site, files, "night")
    assert second.end() == 0, second.text
    assert arrived(site, files)
    sent = site.opened()
    assert 0 < len(announced) < 100
    assert all(sent[file] == 1 for file in announced)
    check_books(site, "night", site.group)


def test_two_jobs_at_once_share_the_work_and_either_may_end_first(site: Site, tmp_path: Path):
    few, many = make_files(tmp_path / "few", 3), make_files(tmp_path / "many", 150, 200_000, "many")
    long = upload(site, many, "long")
    short = upload(site, few, "short")
    assert short.end() == 0, short.text
    assert long.end() == 0, long.text
    assert arrived(site, [*few, *many])
    for job in ("short", "long"):
        check_books(site, job, site.group)


def test_two_jobs_that_send_the_same_files_at_once_both_balance(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 20, 600_000)
    jobs = [upload(site, files, "one"), upload(site, files, "two")]
    for job in jobs:
        assert job.end() == 0, job.text
    for name in ("one", "two"):
        assert site.last(name)["state"] == "balanced"


def test_the_first_ctrl_c_on_a_terminal_detaches_and_the_job_can_be_followed_to_its_end(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 5)
    away = site.external()
    with away.service("run", "ledger"):
        terminal = away.terminal("upload", *files, "--job", "night", "--to", "assembler")
        wait_until(lambda: away.last("night").get("reason") == f"5 wait for {site.group}", within=30)
        terminal.press_ctrl_c()
        terminal.expect(r"headrace\s+jobs\s+follow\s+night.*headrace\s+jobs\s+stop\s+night")
        assert terminal.ended() == 4
        assert away.last("night")["state"] == "running"
    follower = site.start("jobs", "follow", "night", "--json")
    with site.service("run", "assembler"):
        assert follower.end() == 0, follower.text
    assert arrived(site, files)
    check_books(site, "night", site.group)


def test_the_second_ctrl_c_on_a_terminal_stops_the_job_and_its_books_are_right(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 400, 1_000_000)
    terminal = site.terminal("upload", *files, "--job", "night", "--to", "assembler", "--n_threads", "1")
    terminal.expect(r"sending.*MB/s")
    terminal.press_ctrl_c()
    time.sleep(0.05)  # two signals that are pending at once are one
    terminal.press_ctrl_c()
    terminal.expect(r"night: stopped")
    assert terminal.ended() == 1
    last = site.last("night")
    assert last["state"] == "stopped"
    assert 0 < last["books"][0]["delivered"] < 400
    check_books(site, "night", site.group)


@pytest.mark.parametrize("command", ["watch", "follow"])
def test_a_second_ctrl_c_that_comes_when_the_job_is_left_already_stops_it_all_the_same(
    site: Site, tmp_path: Path, command: str
):
    folder = tmp_path / "in"
    make_files(folder, 3)
    watch = ("watch", folder, "--settle", "0s", "--job", "instrument", "--to", "assembler")
    watcher = site.start(*watch) if command == "follow" else None
    terminal = site.terminal(*watch) if watcher is None else None
    wait_until(lambda: sum(book["delivered"] for book in site.last("instrument").get("books", [])) == 3, within=40)
    terminal = terminal or site.terminal("jobs", "follow", "instrument")
    process = psutil.Process(terminal.process.pid)
    ledger = wait_until(lambda: next((each for each in process.children() if "ledger" in each.cmdline()), None))
    terminal.expect("job instrument|3/3")
    ledger.suspend()  # it drains so long
    terminal.press_ctrl_c()
    terminal.expect("detached from instrument")
    terminal.press_ctrl_c()
    ledger.resume()
    terminal.expect("stopping instrument")
    assert terminal.ended() == 4
    assert watcher is None or watcher.end() == 0
    shown = site.run("jobs", "show", "instrument")
    assert "stopped" in shown.text, shown.text


def test_with_on_interrupt_stop_the_first_ctrl_c_stops_the_job(site: Site, tmp_path: Path):
    folder = tmp_path / "in"
    make_files(folder, 3)
    terminal = site.terminal(
        "watch", folder, "--settle", "0s", "--job", "instrument", "--to", "assembler", "--on-interrupt", "stop"
    )
    wait_until(lambda: sum(book["delivered"] for book in site.last("instrument").get("books", [])) == 3, within=40)
    terminal.press_ctrl_c()
    assert terminal.ended() == 0
    assert site.last("instrument")["state"] == "stopped"
    check_books(site, "instrument", site.group)


def test_a_stop_from_elsewhere_ends_the_command(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 400, 1_000_000)
    command = upload(site, files, "night", "--n_threads", "1")
    command.await_line("sent file-")
    command.interrupt(signal.SIGSTOP)  # or everything is sent before the other command has started
    assert site.run("jobs", "stop", "night").code == 0
    command.interrupt(signal.SIGCONT)
    assert command.end() == 1, command.text
    assert site.last("night")["state"] == "stopped"
    check_books(site, "night", site.group)


def test_a_watcher_is_a_standing_job_that_balances_per_file_until_it_is_stopped(site: Site, tmp_path: Path):
    folder = tmp_path / "in"
    make_files(folder, 3)
    watcher = site.start("watch", folder, "--settle", "100ms", "--job", "instrument", "--to", "assembler")

    def delivered() -> int:
        return sum(book["delivered"] for book in site.last("instrument").get("books", []))

    wait_until(lambda: delivered() == 3, within=40)
    make_files(folder, 2, name="later")
    wait_until(lambda: delivered() == 5, within=40)
    assert site.last("instrument")["state"] == "running"
    assert site.run("jobs", "stop", "instrument").code == 0
    assert watcher.end() == 0, watcher.text
    assert site.last("instrument")["state"] == "stopped"
    check_books(site, "instrument", site.group)


def test_a_watcher_that_runs_once_is_a_job_that_ends(site: Site, tmp_path: Path):
    make_files(tmp_path / "in", 4)
    command = site.start("watch", tmp_path / "in", "--settle", "0s", "--once", "--job", "sweep", "--to", "assembler")
    assert command.end() == 0, command.text
    assert site.last("sweep")["state"] == "balanced"
    check_books(site, "sweep", site.group)


def test_a_job_with_dead_letters_ends_with_exit_code_3_and_names_them(site: Site, tmp_path: Path):
    files = [*make_files(tmp_path / "in", 2), *make_files(tmp_path / "in", 1, name="CON.")]
    command = upload(site, files, "night")
    assert command.end() == 3, command.text
    assert site.last("night")["books"][0]["dead_lettered"] == 1
    check_books(site, "night", site.group)
    assert "dead-lettered at" in site.run("jobs", "show", "night").text
    assert site.run("jobs", "show", "night", "--json").text.count('"outcome": "dead_lettered"') == 1

    with site.external().service("run", "ledger"):
        assert site.run("dlq", "discard", "--job", "night", "--yes").code == 0
        wait_until(lambda: site.last("night")["books"][0]["unchanged"] == 1, within=30)
    assert upload(site, files, "night").end() == 0


def put_receipts(cluster: Cluster, site: Site, job: str, outcome: str, times: int = 1) -> None:
    """A group's word on every file of a job, as often as told."""
    producer = cluster.producer()
    for event in avro_records(site.bootstrap, f"{site.prefix}files", "FileEvent"):
        ack = UploadAck(
            group=site.group, item=event["file"].hex(), job=job, file=event["file"], partition=event["partition"],
            first=event["first"], last=event["last"], covers=[Covers(outcome=outcome)], at=time.time_ns() // 1000,  # type: ignore[arg-type]
        )  # fmt: skip
        for _ in range(times):
            producer.produce(
                cluster.topic_name(UPLOAD_ACKS),
                avro.encode(ack),
                encode_key((event["path_id"].hex(), site.group, ack.item)),
                partition=event["partition"],
                headers=[("hr-job", job.encode())],
            )
    assert producer.flush(10) == 0


def test_a_job_with_a_failed_file_ends_with_exit_code_1_and_offers_it_again_when_started_again(
    site: Site, cluster: Cluster, tmp_path: Path
):
    files = make_files(tmp_path / "in", 3)
    away = site.external()
    with away.service("run", "ledger"):
        command = upload(away, files, "night")
        wait_until(lambda: away.last("night").get("reason") == f"3 wait for {site.group}", within=30)
        put_receipts(cluster, site, "night", "failed")
        assert command.end() == 1, command.text
    assert site.last("night")["state"] == "failed"
    again = upload(site, files, "night")
    assert again.end() == 0, again.text
    assert site.last("night")["state"] == "balanced"
    assert arrived(site, files)


def test_two_ledgers_at_once_say_the_same_as_one_and_a_third_has_nothing_to_add(
    site: Site, cluster: Cluster, tmp_path: Path
):
    files = make_files(tmp_path / "in", 30)
    away = site.external()
    with away.service("run", "ledger"), away.service("run", "ledger"), away.service("run", "assembler"):
        command = upload(away, files, "night")
        assert command.end() == 0, command.text
        put_receipts(cluster, site, "night", "delivered", times=2)
        other = upload(away, make_files(tmp_path / "other", 1), "other")
        assert other.end() == 0, other.text
    told = [(entry["state"], entry["books"], entry["reason"]) for entry in site.entries("night")]
    # Both may say the same, but neither takes back what the other said.
    changes = [entry for entry, _ in itertools.groupby(told)]
    assert all(entry not in changes[:number] for number, entry in enumerate(changes)), told
    check_books(site, "night", site.group)
    with away.service("run", "ledger") as third:
        third.await_line("keeping books")
        assert upload(away, [], "nothing", to="").end() == 2
        assert away.run("jobs", "follow", "night").code == 0
    assert len(site.entries("night")) == len(told)


def test_a_ledger_that_was_killed_goes_on_with_what_happened_meanwhile(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 10)
    away = site.external()
    ledger = away.start("run", "ledger")
    command = upload(away, files, "night")
    wait_until(lambda: away.last("night").get("reason") == f"10 wait for {site.group}", within=30)
    ledger.kill()
    with away.service("run", "assembler"):
        wait_until(lambda: books_from_raw(site, "night", site.group)["delivered"] == 10, within=30)
    assert site.last("night")["state"] == "running"
    with away.service("run", "ledger"):
        assert command.end() == 0, command.text
    check_books(site, "night", site.group)


def test_a_redriven_file_turns_the_books_of_a_job_that_was_done(site: Site, cluster: Cluster, tmp_path: Path):
    files = make_files(tmp_path / "in", 4)
    away = site.external()
    with away.service("run", "ledger"):
        command = upload(away, files, "night")
        wait_until(lambda: away.last("night").get("reason") == f"4 wait for {site.group}", within=30)
        put_receipts(cluster, site, "night", "dead_lettered")
        assert command.end() == 3, command.text
        put_receipts(cluster, site, "night", "delivered")
        wait_until(lambda: site.last("night")["books"][0]["delivered"] == 4, within=30)
    assert away.run("jobs", "show", "night", "--json").text.count('"ledger_agrees": true') == 1


def test_wrong_usage_is_said_before_anything_is_sent(site: Site, tmp_path: Path):
    files = make_files(tmp_path / "in", 1)
    assert upload(site, files, "a/b").end() == 2
    assert upload(site, files, "good", to="no_such_service").end() == 2
    assert upload(site, files, "good", to="directory_source").end() == 2
    assert site.run("jobs", "show", "nobody").code == 2
    assert site.run("jobs", "stop", "nobody").code == 2
    assert site.run("jobs", "follow", "nobody").code == 2
    assert site.opened() == {}


def test_sigterm_detaches(site: Site, tmp_path: Path):
    away = site.external()
    command = upload(away, make_files(tmp_path / "in", 1), "night")
    command.await_line("1 files")
    command.interrupt(signal.SIGTERM)
    assert command.end() == 4, command.text
