"""Nights of a state, from the files to ART: the scenarios of the reference, section 5.7, by their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from tests.support.art_loading import Dump, Loading, ServedArt, check, saved_more_than_once, served_art

pytestmark = pytest.mark.kafka


@pytest.fixture
def art() -> Iterator[ServedArt]:
    with served_art() as served:
        yield served


@pytest.fixture
def loading(broker: EmbeddedBroker, prefix: str, tmp_path: Path, art: ServedArt) -> Loading:
    return Loading(broker.bootstrap, prefix, tmp_path, art)


def test_a1_every_student_is_at_art_once_and_every_line_is_accounted_for(loading: Loading, tmp_path: Path) -> None:
    dump = Dump.make(tmp_path, rows=2_000)
    schools, students = loading.feed(dump)
    with loading.running():
        loading.wait(students)
    assert check(loading, students, dump) == []
    assert not saved_more_than_once(loading.art)
    assert loading.lines(students).counts == {"delivered": 2_000}
    assert schools is not None
    assert loading.lines(schools, "entities").counts == {"delivered": 25}
