"""Which engine sends: ours, or the one that writes OpenMSIStream's layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from headrace.errors import ConfigError
from headrace.kafka.clients import Cluster
from headrace.topics import FILES, Topic
from headrace_files.openmsi.sender import OpenmsiSender
from headrace_files.openmsi.topics import SENT
from headrace_files.sending.engine import Abroad, Engine
from headrace_files.sending.jobs import Outcome
from headrace_files.sending.sender import Options, Sender

Format = Literal["headrace", "openmsi", "openmsi-9"]


class NotAbroad(ConfigError):
    """The option {option} has no meaning with --format {format}: {why}. Leave it out."""

    code = "not-abroad"


class TopicAndFormat(ConfigError):
    """The format {format} and a topic belong together: --format openmsi --topic NAME sends to a topic of OpenMSIStream; the format headrace knows its own."""  # noqa: E501

    code = "topic-and-format"


def abroad(chosen: Format, topic: str | None) -> Abroad | None:
    """Where files go, if not to our own topics.

    Raises TopicAndFormat if one is given without the other.
    """
    if (chosen == "headrace") != (topic is None):
        raise TopicAndFormat(format=chosen)
    return None if topic is None else Abroad(topic, 9 if chosen == "openmsi-9" else 10)


def refuse_books(chosen: str, given: Mapping[str, object]) -> None:
    """See that nothing is asked for that needs receivers of ours.

    Parameters:
        given: by option, whether or what was given.

    Raises NotAbroad.
    """
    for option, value in given.items():
        if value:
            raise NotAbroad(option=option, format=chosen, why="readers of OpenMSIStream leave no receipts")


def memory(options: Options) -> Topic:
    """The topic that remembers what was sent."""
    return FILES if options.abroad is None else SENT


def make_engine(cluster: Cluster, options: Options, listener: Callable[[Outcome], None]) -> Engine:
    """The engine that sends as the options say.

    Raises NoForeignTopic, MissingTopic, KafkaUnreachable, WrongChunkSize.
    """
    if options.abroad is None:
        return Sender(cluster, options, listener)
    return OpenmsiSender(cluster, options, listener, options.abroad)
