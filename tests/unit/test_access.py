"""What each service must be allowed on Kafka, as it follows from the catalogue."""

from __future__ import annotations

import pytest

from headrace.families import catalogue, stages
from headrace.kafka.access import DUTIES, Access, UnknownDuty, of_duty, of_service
from headrace.kafka.acls import commands


@pytest.mark.parametrize("name", sorted(stages()))
def test_a_service_may_write_dead_letters_and_read_them_only_if_that_is_its_task(name):
    entry = stages()[name]
    accesses = of_service(entry, catalogue(), "lab.", ["here"])
    letters = {operation for each in accesses if each.name == "lab.dead-letters" for operation in each.operations}
    assert ("Read" in letters) == ("dead-letters" in entry.duties)
    assert ("Write" in letters) == ("dead-letters" in entry.writes)


@pytest.mark.parametrize("name", sorted(stages()))
def test_everything_that_a_service_may_touch_bears_our_prefix(name):
    accesses = of_service(stages()[name], catalogue(), "lab.", ["here"])
    assert accesses
    assert all(each.name.startswith("lab.") for each in accesses)
    assert all("All" not in each.operations for each in accesses)


def test_a_sink_that_is_known_is_the_only_group():
    entry = stages()["assembler"]
    known = of_service(entry, catalogue(), "", ["lab"])
    assert Access("group", "assembler.lab", False, ("Read",)) in known
    unknown = of_service(entry, catalogue(), "", [])
    assert Access("group", "assembler.", True, ("Read",)) in unknown
    assert not [
        each for each in of_service(stages()["directory_source"], catalogue(), "", None) if each.kind == "group"
    ]


def test_a_topic_of_others_may_be_read_and_nothing_else():
    named = of_service(stages()["openmsi_bridge"], catalogue(), "lab.", ["shots"], ["their_files"])
    assert [each for each in named if not each.name.startswith("lab.")] == [
        Access("topic", "their_files", False, ("Read",))
    ]


def test_who_watches_reads_no_personal_files():
    assert not any("Read" in each.operations for each in of_duty("monitor", "lab.") if "personal" in each.name)


def test_a_task_without_a_prefix_is_for_every_name():
    assert of_duty("operator", "") == [Access("topic", "*", False, ("All",)), Access("group", "*", False, ("All",))]


def test_an_unknown_task_names_those_that_are_known():
    with pytest.raises(UnknownDuty, match=", ".join(DUTIES)):
        of_duty("everything", "")


def test_a_command_survives_the_shell():
    (line,) = commands("User:CN=lab 1", [Access("topic", "t.", True, ("Read", "Write"))], "kafka:9092")
    assert line == (
        "kafka-acls.sh --bootstrap-server kafka:9092 --add --allow-principal 'User:CN=lab 1' "
        "--operation Read --operation Write --topic t. --resource-pattern-type prefixed"
    )
