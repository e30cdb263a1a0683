"""Closing the dead letters of items that have arrived by another way."""

from __future__ import annotations

from collections.abc import Set

from headrace.deadletters.decisions import read_decisions, record
from headrace.deadletters.letters import DeadLetter, read_letters
from headrace.deadletters.progress import Progress
from headrace.errors import PoisonError
from headrace.kafka.clients import Cluster
from headrace.keys import decode_key


def close_letters(cluster: Cluster, group: str, items: Set[str]) -> int:
    """Record as replayed what is open of these items in this group, frames of their files included; returns how many.

    Raises KafkaUnreachable, MissingTopic.
    """
    if not items:
        return 0
    with Progress(cluster) as progress:
        starts = progress.read().lows
    decided = {decision.letter for decision in read_decisions(cluster)}
    letters = [
        letter
        for letter, _ in read_letters(cluster, starts)
        if letter.group == group
        and letter.id not in decided
        and not items.isdisjoint((letter.item, _last_part(letter)))
    ]
    return record(cluster, letters, "replayed")


def _last_part(letter: DeadLetter) -> str:
    try:
        return decode_key(letter.key)[-1]
    except PoisonError:
        return letter.item
