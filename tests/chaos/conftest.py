"""Fixtures of chaos: a plant on the run's broker, or on one of its own that may be killed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from headrace.broker import EmbeddedBroker
from headrace.sandbox.s3 import S3Server
from tests.support.art_crew import Crew
from tests.support.chaos import Plant
from tests.support.running import new_cluster


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the seed and the ends of the services' logs with a failure."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Plant | Crew):
                report.sections.append((f"seed {value.seed}", value.tails()))
    return report


@pytest.fixture
def say(request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line although the output is captured."""

    def print_line(text: str) -> None:
        with capfd.disabled():
            print(f"\n  {request.node.name}: {text}", flush=True)

    return print_line


@pytest.fixture
def plant(broker: EmbeddedBroker, prefix: str, tmp_path: Path, say: Callable[[str], None]) -> Iterator[Plant]:
    """A plant without an object store."""
    plant = Plant(new_cluster(broker.bootstrap, prefix), tmp_path, say, job="night")
    yield plant
    plant.end()


@pytest.fixture
def archive_plant(
    broker: EmbeddedBroker, s3: S3Server, bucket: str, prefix: str, tmp_path: Path, say: Callable[[str], None]
) -> Iterator[Plant]:
    """A plant with an object store."""
    plant = Plant(new_cluster(broker.bootstrap, prefix), tmp_path, say, s3=s3, bucket=bucket, job="night")
    yield plant
    plant.end()
