"""The dead letters that are meant, each with how it stands."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.deadletters.decisions import Decision, read_decisions
from headrace.deadletters.letters import DeadLetter, Id, read_letters
from headrace.deadletters.progress import Progress
from headrace.deadletters.selection import Selection, State, state_of
from headrace.errors import ConfigError
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage


class NothingChosen(ConfigError):
    """No dead letters are named. Name some by id or by a filter, such as --reason CODE or --service NAME."""

    code = "nothing-chosen"


def standing(
    cluster: Cluster, selection: Selection, *, every: bool
) -> Iterator[tuple[DeadLetter, RawMessage, State, Decision | None]]:
    """The letters that are meant, with how they stand; unless `every`, only those that nobody has decided on.

    Raises KafkaUnreachable, MissingTopic.
    """
    starts = None
    if not every:
        with Progress(cluster) as progress:
            starts = progress.read().lows
    decisions: dict[Id, Decision] = {decision.letter: decision for decision in read_decisions(cluster)}
    for letter, raw in read_letters(cluster, starts):
        if (every or letter.id not in decisions) and selection.takes(letter):
            yield letter, raw, state_of(letter, decisions), decisions.get(letter.id)
