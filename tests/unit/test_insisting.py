"""Doing something with Kafka until it works, without a line for every moment that it takes to start."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from headrace.errors import ConfigError, TransientError
from headrace.kafka import insisting
from headrace.kafka.insisting import insist


def failing(times: int, retry_after: float = 0.001) -> Callable[[], str]:
    left = iter(range(times))

    def act() -> str:
        if next(left, None) is not None:
            raise TransientError(what="Kafka", problem="starting", retry_after=retry_after)
        return "done"

    return act


def test_what_works_within_a_moment_is_not_worth_a_line() -> None:
    told: list[TransientError] = []
    with capture_logs() as logs:
        assert insist(threading.Event(), failing(3), told.append) == "done"
    assert logs == []
    assert len(told) == 3


def test_what_lasts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(insisting, "SAID_AFTER", 0.02)
    with capture_logs() as logs:
        assert insist(threading.Event(), failing(2, retry_after=0.03)) == "done"
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("waiting for Kafka", "warning")
    assert "starting" in line["problem"]


def test_it_ends_when_told_to_stop_and_with_what_waiting_does_not_help() -> None:
    stop = threading.Event()
    assert insist(stop, failing(9), lambda _error: stop.set()) is None

    def wrong() -> None:
        raise ConfigError(setting="x", problem="wrong", remedy="Change it.")

    with pytest.raises(ConfigError):
        insist(threading.Event(), wrong)
