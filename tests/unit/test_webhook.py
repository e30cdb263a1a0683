"""Notices over HTTP, to a real server on this machine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from headrace_ops.alarms.board import Notice
from headrace_ops.alarms.rules import Alarm
from headrace_ops.alarms.webhook import WAITING, Webhook
from tests.support.receiving import receiving
from tests.support.waiting import wait_until

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def notice(about: str = "/") -> Notice:
    return Notice("raised", Alarm("disk-low", about, "little is free"), NOW, NOW)


@contextmanager
def hook(url: str, patience: float = 10) -> Iterator[tuple[Webhook, list[str]]]:
    results: list[str] = []
    made = Webhook(url, timedelta(seconds=5), timedelta(seconds=patience), results.append, first_wait=0.01)
    yield made, results
    made.close()


def test_a_notice_is_posted_as_json():
    with receiving() as receiver, hook(receiver.url) as (webhook, results):
        webhook.tell(notice())
        wait_until(lambda: results == ["delivered"])
    at = "2026-11-25T12:00:00+00:00"
    assert receiver.bodies == [
        {"event": "raised", "alarm": "disk-low", "about": "/", "message": "little is free", "since": at, "at": at}
    ]


def test_it_is_tried_again_until_it_is_taken_and_the_order_is_kept():
    with receiving(500, 503, 429) as receiver, hook(receiver.url) as (webhook, results):
        webhook.tell(notice("1"))
        webhook.tell(notice("2"))
        wait_until(lambda: results == ["delivered", "delivered"])
    assert [body["about"] for body in receiver.bodies] == ["1", "2"]
    assert receiver.requests == 5


def test_what_is_refused_for_good_is_not_tried_again():
    with receiving(404) as receiver, hook(receiver.url) as (webhook, results):
        webhook.tell(notice())
        wait_until(lambda: results == ["refused"])
    assert receiver.requests == 1


def test_a_receiver_that_is_away_for_too_long_is_given_up():
    with hook("http://127.0.0.1:9/", patience=0.05) as (webhook, results):
        webhook.tell(notice())
        wait_until(lambda: results == ["given-up"])


@pytest.mark.timeout(30)
def test_telling_never_blocks_and_the_oldest_go_when_too_many_wait():
    gate = threading.Event()
    with receiving(gate=gate) as receiver, hook(receiver.url) as (webhook, results):
        began = time.monotonic()
        for number in range(WAITING + 10):
            webhook.tell(notice(str(number)))
        assert time.monotonic() - began < 2
        assert 9 <= results.count("overtaken") <= 10
        gate.set()
        wait_until(lambda: results.count("delivered") >= WAITING, within=20)
    assert receiver.bodies[-1]["about"] == str(WAITING + 9)
