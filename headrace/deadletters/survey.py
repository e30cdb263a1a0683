"""What a redrive would do with each dead letter, and how many there are of which kind."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from headrace.chunks.frames import Whole
from headrace.deadletters.decisions import Decision, read_decisions
from headrace.deadletters.letters import DeadLetter, Id, read_letters
from headrace.deadletters.progress import Standing
from headrace.deadletters.selection import MOST_ATTEMPTS, Histogram, Selection, state_of
from headrace.errors import PoisonError
from headrace.kafka.clients import Cluster
from headrace.kafka.raw import RawMessage
from headrace.keys import decode_key
from headrace.stage.decoding import decode_value
from headrace.topics import DEAD_LETTERS, Topic

Fate = Literal["redrive", "quarantined", "piece", "undecodable", "no-way-back"]

WHY: dict[Fate, str] = {
    "redrive": "goes back to the topic that it came from",
    "quarantined": "has died too often; --force sends it once more",
    "piece": "belongs to a file in pieces, which is replayed as a whole: headrace replay --file ID",
    "undecodable": "this version cannot read it either, so it would only die again; --force sends it all the same",
    "no-way-back": "does not say where it came from, or there is no such topic here; it can only be discarded",
}
FATES: Sequence[Fate] = get_args(Fate)
FORCED: Sequence[Fate] = ("quarantined", "undecodable")
"""What goes all the same when it is forced."""
FILES_NAMED = 20


@dataclass
class Survey:
    """The dead letters that nobody has decided on yet.

    `chosen` are those to re-drive, `size` their bytes; `undecided` all of them, by partition, in log order; `sources`
    where they came from (topic on the wire, partition); `files` ids of files in pieces, a few; `forced` how many of the
    chosen would stay if they were not forced, by what their fate would be.
    """

    standing: Standing
    decisions: dict[Id, Decision]
    chosen: set[Id] = field(default_factory=set)
    size: int = 0
    undecided: dict[int, deque[int]] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    sources: set[tuple[str, int]] = field(default_factory=set)
    wholes: set[tuple[str, str]] = field(default_factory=set)
    files: dict[str, None] = field(default_factory=dict)
    histogram: Histogram = field(default_factory=Histogram)
    forced: Counter[Fate] = field(default_factory=Counter)

    def count(self, fate: Fate) -> int:
        """How many of those that are meant have this fate."""
        return sum(count for (*_, kept), count in self.histogram.counts.items() if kept == fate)


class Surveyor:
    """Decides the fate of dead letters.

    Parameters:
        topics: the catalogue; only to these anything is sent.
        force: also what is quarantined or undecodable.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Sequence[Topic],
        selection: Selection,
        *,
        most_attempts: int = MOST_ATTEMPTS,
        force: bool = False,
    ) -> None:
        self._cluster = cluster
        self.topics = {cluster.topic_name(topic): topic for topic in topics if topic is not DEAD_LETTERS}
        self._selection = selection
        self._most_attempts = most_attempts
        self._force = force

    def survey(self, standing: Standing) -> Survey:
        """Read all dead letters from `standing` on.

        Raises KafkaUnreachable, MissingTopic.
        """
        result = Survey(standing, {decision.letter: decision for decision in read_decisions(self._cluster)})
        for letter, raw in read_letters(self._cluster, standing.lows):
            result.ends[letter.partition] = letter.offset + 1
            if letter.id in result.decisions:
                continue
            result.undecided.setdefault(letter.partition, deque()).append(letter.offset)
            fate = self._fate(letter, raw, result)
            forced = self._force and fate in FORCED
            if fate != "no-way-back":
                result.sources.add((letter.topic, letter.source_partition))
            if not self._selection.takes(letter):
                continue
            if forced:
                result.forced[fate] += 1
                fate = "redrive"
            result.histogram.take(letter, fate)
            if fate == "redrive":
                result.chosen.add(letter.id)
                result.size += letter.size
            elif fate == "piece" and len(result.files) < FILES_NAMED:
                result.files[decode_key(letter.key)[-1]] = None
        return result

    def _fate(self, letter: DeadLetter, raw: RawMessage, survey: Survey) -> Fate:
        topic = self.topics.get(letter.topic)
        if topic is None or not letter.group or letter.source_offset < 0:
            return "no-way-back"
        if not 0 <= letter.source_partition < self._cluster.partitions(topic):
            return "no-way-back"
        if topic.framing == "frames" and "/" in letter.item:
            # A row of a file, not a frame.
            return "piece"
        if topic.framing != "original":
            try:
                key = decode_key(letter.key)
                value = decode_value(topic, raw.value() or b"")
            except PoisonError:
                return "undecodable"
            if topic.framing == "frames":
                if not isinstance(value, Whole):
                    return "piece"
                survey.wholes.add((key[0], letter.group))
        return "quarantined" if state_of(letter, {}, self._most_attempts) == "quarantined" else "redrive"
