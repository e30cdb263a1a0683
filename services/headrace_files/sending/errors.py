"""What can go wrong while sending, as far as somebody must act on it."""

from __future__ import annotations

from headrace.errors import ConfigError, FatalError


class SourceTaken(ConfigError):
    """Another process on this machine sends as source {source}. Stop it, or give this one another name: --source."""

    code = "source-taken"


class NotAFolder(ConfigError):
    """{path} is not a folder that can be read: {problem}. Name a folder to watch."""

    code = "not-a-folder"


class WrongPattern(ConfigError):
    """The pattern {pattern!r} is no regular expression: {problem}. See docs.python.org, module re."""

    code = "wrong-pattern"


class NothingToSend(ConfigError):
    """{path} cannot be sent: {problem}."""

    code = "nothing-to-send"


class NeverAssembled(ConfigError):
    """The dataset {dataset} is personal: its files are read by csv_fanout alone. Leave out --wait assembled."""

    code = "never-assembled"


class NotOnTheLog(FatalError):
    """A message to {topic} was refused for good: {problem}; the process ends; started again it goes on from the log."""

    code = "not-on-the-log"


class SenderBroken(FatalError):
    """Sending stopped in an unforeseen way: {problem}; the process ends; started again it goes on from the log."""

    code = "sender-broken"


class WrongOption(ConfigError):
    """The option {option} is wrong: {value!r} is no {kind}. Examples: {examples}."""

    code = "wrong-option"
