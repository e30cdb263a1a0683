"""What families promise is there."""

from __future__ import annotations

import pytest

from headrace.cli import commands
from headrace.cli.lazy import load_command
from headrace.config import ServiceSettings
from headrace.families import UnknownService, catalogue, named, stage_named, stages


@pytest.mark.parametrize("name", sorted(stages()))
def test_every_service_can_be_loaded_and_names_topics_of_the_catalogue(name):
    entry = stages()[name]
    assert issubclass(entry.load_settings(), ServiceSettings)
    assert callable(entry.load_factory())
    entry.load_metrics()
    topics = [topic.name for topic in catalogue()]
    for name in (*entry.reads, *entry.writes):
        assert any(named(topic, [name]) for topic in topics), name


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_can_be_loaded_and_explains_itself(name):
    assert load_command(commands()[name]).help


def test_an_instance_belongs_to_the_service_before_the_dot():
    assert stage_named("assembler.site_b").name == "assembler"


def test_an_unknown_service_is_refused_with_those_that_exist():
    with pytest.raises(UnknownService, match=r"no service asembler\..*archiver, assembler"):
        stage_named("asembler")
