"""Fixtures of every kind of test: one real broker and one real S3 server a run, names that no other test uses."""

from __future__ import annotations

import concurrent.futures
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from headrace.broker import EmbeddedBroker, free_port
from headrace.sandbox.s3 import S3Server
from tests.support.guard import guarded


@pytest.fixture(scope="session", autouse=True)
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep the run out of this user's state folder, and let nothing that it starts outlive it."""
    state = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch, guarded(tmp_path_factory.getbasetemp()):
        patch.setenv("HEADRACE_STATE", str(state))
        yield state


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory, own_state: Path) -> Iterator[EmbeddedBroker]:
    """The broker of this run, running. Tests share it: use `prefix`, and leave it up."""
    yield from _broker(tmp_path_factory.mktemp("broker"))


@pytest.fixture
def own_broker(tmp_path_factory: pytest.TempPathFactory, own_state: Path) -> Iterator[EmbeddedBroker]:
    """A broker for one test, running: kill it, start it again on the same data and port, reset it."""
    yield from _broker(tmp_path_factory.mktemp("own-broker"))


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory, own_state: Path) -> Iterator[S3Server]:
    """The S3 server of this run, running. Tests share it: use `bucket`, and leave it up."""
    yield from _s3(tmp_path_factory.mktemp("s3"))


@pytest.fixture
def own_s3(tmp_path_factory: pytest.TempPathFactory, own_state: Path) -> Iterator[S3Server]:
    """An S3 server for one test, running: stop it, kill it, restart it."""
    yield from _s3(tmp_path_factory.mktemp("own-s3"))


@pytest.fixture
def bucket(s3: S3Server) -> str:
    """Name of a new, empty bucket."""
    return s3.create_bucket(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """Prefix of topics and groups that no other test has; its topics on the shared broker are deleted at the end."""
    mine = f"t{uuid.uuid4().hex[:8]}."
    shared = request.getfixturevalue("broker") if "broker" in request.fixturenames else None
    yield mine
    if shared is not None:
        _delete_topics(shared.bootstrap, mine)


def _delete_topics(bootstrap: str, prefix: str) -> None:
    # Thousands of them make every answer of the broker slow.
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    names = [name for name in admin.list_topics(timeout=10).topics if name.startswith(prefix)]
    if names:
        concurrent.futures.wait(admin.delete_topics(names, request_timeout=10).values(), 10)


def _broker(folder: Path) -> Iterator[EmbeddedBroker]:
    broker = EmbeddedBroker(folder, free_port(), fast_start=True)
    broker.start()
    yield broker
    broker.kill()  # nobody needs its data
    shutil.rmtree(folder)


def _s3(folder: Path) -> Iterator[S3Server]:
    with S3Server(folder) as server:
        yield server
    shutil.rmtree(folder)
