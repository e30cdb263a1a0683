"""Logs without secrets, and health that follows the work."""

from __future__ import annotations

import io
import json
import logging
import threading
import urllib.error
import urllib.request
from datetime import timedelta

import pytest
import structlog
from pydantic import SecretStr

from headrace.config import LogSettings
from headrace.observe.health import Health
from headrace.observe.log import configure
from headrace.observe.metrics import Metrics
from headrace.observe.server import HealthServer, MetricsPortTaken


@pytest.fixture
def records():
    """Configures logging into a buffer; gives the records back."""
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def _records(**settings: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in out.getvalue().splitlines()]

    configure(LogSettings(level="info"), "painter", out)
    yield _records
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def test_a_record_is_one_json_line_with_its_service_and_level(records):
    structlog.get_logger().info("painted", walls=3)
    structlog.get_logger().debug("not shown")
    (record,) = records()
    assert (record["event"], record["walls"], record["service"], record["level"]) == ("painted", 3, "painter", "info")
    assert str(record["timestamp"]).endswith("Z")


def test_records_of_other_threads_bear_the_service_too(records):
    thread = threading.Thread(target=lambda: structlog.get_logger().info("painted"))
    thread.start()
    thread.join()
    assert records()[0]["service"] == "painter"


def test_secrets_never_reach_a_record(records):
    structlog.get_logger().info(
        "connecting",
        key=SecretStr("hush"),
        api_token="hush",
        properties={"sasl.password": "hush", "sasl.username": "anna"},
        url="https://anna:hush@example.org/path",
        many=["s3://anna:hush@bucket"],
    )
    line = json.dumps(records())
    assert "hush" not in line
    assert "anna" in line
    assert "example.org/path" in line


def test_a_library_that_logs_by_itself_is_heard_from_warnings_on(records):
    logging.getLogger("boto3").info("chatter")
    logging.getLogger("boto3").warning("slow down")
    assert [record["event"] for record in records()] == ["slow down"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(timedelta(seconds=60), clock)


def test_a_partition_that_has_work_and_does_not_move_is_unwell(health, clock):
    health.progress("chunks/0", 10, 5)
    clock.now = 61
    health.progress("chunks/0", 10, 5)
    verdict = health.alive()
    assert not verdict.well
    assert verdict.reasons == ["chunks/0: no progress for 61 s with 5 to do"]
    health.progress("chunks/0", 11, 4)
    assert health.alive().well


def test_a_moving_partition_does_not_excuse_a_stuck_one(health, clock):
    for second in range(0, 80, 10):
        clock.now = second
        health.progress("chunks/0", second, 5)
        health.progress("chunks/1", 3, 5)
    assert [reason.split(":")[0] for reason in health.alive().reasons] == ["chunks/1"]


def test_an_idle_partition_is_well_and_work_that_comes_has_its_full_time(health, clock):
    health.progress("chunks/0", 10, 0)
    clock.now = 1000
    health.progress("chunks/0", 10, 7)
    assert health.alive().well
    clock.now = 1061
    assert not health.alive().well


def test_a_declared_pause_is_well_until_it_has_long_ended(health, clock):
    health.progress("chunks/0", 10, 5)
    health.paused("chunks/0", 300, "the disk is full")
    clock.now = 299
    verdict = health.alive()
    assert (verdict.well, verdict.pauses) == (True, ["chunks/0: the disk is full"])
    clock.now = 361
    assert not health.alive().well


def test_a_partition_that_is_not_ours_any_more_is_forgotten(health, clock):
    health.progress("chunks/0", 10, 5)
    health.forget("chunks/0")
    clock.now = 100
    assert health.alive().well


def test_a_loop_that_hangs_is_unwell(health, clock):
    health.beat()
    clock.now = 61
    assert "main loop" in health.alive().reasons[0]


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_health_and_metrics_are_served_over_http(health, clock):
    metrics = Metrics()
    metrics.add("messages_total", 3)
    metrics.set("lag", 7, topic="chunks", partition="0")
    with HealthServer(health, metrics) as server:
        code, body = get(server.port, "/readyz")
        assert (code, json.loads(body)["reasons"]) == (503, ["it has not started yet"])
        health.ready()
        assert get(server.port, "/readyz")[0] == 200
        health.progress("chunks/0", 1, 1)
        assert get(server.port, "/healthz")[0] == 200
        clock.now = 100
        code, body = get(server.port, "/healthz")
        assert (code, json.loads(body)["status"]) == (503, "unwell")
        text = get(server.port, "/metrics")[1]
        assert "headrace_messages_total 3.0" in text
        assert 'headrace_lag{partition="0",topic="chunks"} 7.0' in text
        assert get(server.port, "/secrets")[0] == 404


def test_a_port_that_is_taken_is_refused_with_the_way_out(health):
    with HealthServer(health, Metrics()) as server, pytest.raises(MetricsPortTaken, match="metrics_port"):
        HealthServer(health, Metrics(), port=server.port)
