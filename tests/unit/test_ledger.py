"""What a ledger keeps in memory, when it writes, and when it keeps quiet."""

from __future__ import annotations

import pytest

from headrace.events import Command, Covers, FileEvent, Job, UploadAck
from headrace.jobs.assessment import Wanted
from headrace.jobs.log import Word
from headrace_ops.ledger.ledger import FIRST_LOOK, Ledger

FILES, ACKS = ("files", 0), ("upload-acks", 0)
PLACES = frozenset({FILES, ACKS})
GROUP = "headrace.assembler.site"
ID = b"f" * 16


def command(offset: int, files: int | None = None, job: str = "j", desired: str = "run") -> Word:
    params = Wanted((GROUP,), files).params()
    return Word(Command(job=job, kind="upload", desired=desired, params=params, by="me", at=1), offset, offset)  # type: ignore[arg-type]


def announced(file: bytes = ID, job: str = "j") -> FileEvent:
    return FileEvent(
        path_id=b"p" * 16, file=file, source="s", path=b"a", state="announced", attempt=0, mtime_ns=1, partition=0,
        job=job, at=1,
    )  # fmt: skip


def receipt(outcome: str = "delivered", file: bytes = ID, job: str | None = "j", last: int = 1) -> UploadAck:
    return UploadAck(
        group=GROUP, item=file.hex(), job=job, file=file, partition=0, first=0, last=last,
        covers=[Covers(outcome=outcome)], at=last,  # type: ignore[arg-type]
    )  # fmt: skip


class Log:
    """The jobs topic, one partition of it, with everything that ledgers wrote."""

    def __init__(self) -> None:
        self.words: list[Word] = []

    def add(self, word: Word) -> Word:
        self.words.append(Word(word.event, len(self.words), word.at))
        return self.words[-1]

    def write(self, ledger: Ledger, positions: tuple[int, int], *readers: Ledger) -> list[Job]:
        """Let a ledger write, and it and others read it."""
        entries = list(ledger.entries(at(*positions), now=100))
        for entry in entries:
            word = self.add(Word(entry, 0, 100))
            for reader in (ledger, *readers):
                reader.take_word(word)
        return entries


def at(files: int, acks: int) -> dict[tuple[str, int], int]:
    return {FILES: files, ACKS: acks}


def ledger_on(log: Log, ends: tuple[int, int] = (0, 0)) -> Ledger:
    ledger = Ledger(PLACES)
    for word in log.words:
        ledger.take_word(word)
    ledger.begin(at(*ends))
    return ledger


@pytest.fixture
def log() -> Log:
    found = Log()
    found.add(command(0, 1))
    return found


def finished(log: Log) -> Ledger:
    """A ledger that has closed the job, having read one announcement and one receipt."""
    ledger = ledger_on(log)
    ledger.take("j", announced(), 5)
    ledger.take("j", receipt(), 6)
    assert [entry.state for entry in log.write(ledger, (1, 1))] == ["balanced"]
    assert log.write(ledger, (1, 1)) == []
    assert ledger.close() == ["j"]
    return ledger


def test_a_job_that_is_done_is_let_go_only_once_that_is_on_the_log(log: Log):
    ledger = ledger_on(log)
    ledger.take("j", announced())
    ledger.take("j", receipt())
    (entry,) = ledger.entries(at(1, 1), now=100)
    assert ledger.close() == []
    ledger.take_word(log.add(Word(entry, 0, 100)))
    assert list(ledger.entries(at(1, 1), now=200)) == []
    assert ledger.close() == ["j"]
    assert ledger.files == 0


def test_an_entry_that_did_not_get_onto_the_log_is_offered_again(log: Log):
    ledger = ledger_on(log)
    assert len(list(ledger.entries(at(0, 0), now=1))) == 1
    assert list(ledger.entries(at(0, 0), now=2)) == []
    ledger.not_written(["j"])
    assert len(list(ledger.entries(at(0, 0), now=3))) == 1


def test_a_restarted_ledger_opens_no_job_that_is_done_and_ignores_what_its_books_hold(log: Log):
    finished(log)
    again = ledger_on(log, (1, 1))
    assert again.open == {}
    assert not again.wants("j", FILES, 0)
    assert not again.wants("j", ACKS, 0)
    assert again.to_rebuild == set()


def test_something_new_for_a_job_that_is_done_has_its_evidence_read_again(log: Log):
    ledger = finished(log)
    assert not ledger.wants("j", ACKS, 1)
    assert ledger.begin_rebuild() == {"j": 0}
    ledger.take("j", announced())
    ledger.take("j", receipt())
    assert log.write(ledger, (1, 2)) == [], "a doubled receipt is no news"
    assert ledger.close() == ["j"]


def test_a_second_ledger_writes_nothing_that_is_on_the_log(log: Log):
    first, second = ledger_on(log), ledger_on(log)
    for ledger in (first, second):
        ledger.take("j", announced())
    assert len(log.write(first, (1, 0), second)) == 1
    assert log.write(second, (1, 0), first) == []
    assert log.write(first, (1, 0), second) == []


def test_a_ledger_that_is_behind_keeps_quiet_until_it_has_caught_up(log: Log):
    ahead, behind = ledger_on(log), ledger_on(log)
    for evidence in (announced(), receipt()):
        ahead.take("j", evidence)
    assert [entry.state for entry in log.write(ahead, (1, 1), behind)] == ["balanced"]
    behind.take("j", announced())
    assert log.write(behind, (1, 0), ahead) == []
    behind.take("j", receipt())
    assert log.write(behind, (1, 1), ahead) == []
    assert behind.close() == ["j"]


def test_a_new_command_for_a_job_that_is_done_opens_it_again_with_all_that_is_known_of_it(log: Log):
    ledger = finished(log)
    ledger.take_word(log.add(command(0, 2)))
    assert ledger.begin_rebuild() == {"j": 0}
    ledger.take("j", announced())
    ledger.take("j", receipt())
    (entry,) = log.write(ledger, (1, 1))
    assert (entry.state, entry.reason) == ("running", "1 not announced")


def test_every_command_is_answered_even_if_it_changes_nothing(log: Log):
    ledger = finished(log)
    ledger.take_word(log.add(command(0, 1)))
    ledger.begin_rebuild()
    ledger.take("j", announced())
    ledger.take("j", receipt())
    assert [entry.state for entry in log.write(ledger, (1, 1))] == ["balanced"]


def test_evidence_before_its_command_is_found_again(log: Log):
    ledger = ledger_on(log)
    assert not ledger.wants("late", FILES, 0)
    ledger.take_word(log.add(command(0, job="late")))
    assert ledger.to_rebuild == {"late"}


def test_positions_of_topics_that_were_made_anew_are_not_believed(log: Log):
    finished(log)
    again = ledger_on(log, ends=(0, 0))
    assert not again.wants("j", FILES, 0)
    assert again.to_rebuild == {"j"}


def test_receipts_are_looked_for_under_other_jobs_names_when_they_are_all_that_lacks(log: Log):
    ledger = ledger_on(log)
    ledger.take("j", announced(), 50)
    log.write(ledger, (1, 0))
    assert ledger.sharing(ID, "other") == ["j"]
    assert ledger.sharing(ID, "j") == []
    assert ledger.to_look_for(0.0) == {}
    assert ledger.to_look_for(FIRST_LOOK) == {"j": 0}
    assert ledger.to_look_for(FIRST_LOOK + 1) == {}
    ledger.take("j", receipt(job="other"))
    assert [entry.state for entry in log.write(ledger, (1, 1))] == ["balanced"]
    assert ledger.to_look_for(1000.0) == {}
