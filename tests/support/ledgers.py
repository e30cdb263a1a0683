"""A ledger in a thread of the test, and what it says of a job."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from headrace.jobs.assessment import Wanted
from headrace.jobs.commands import command_for
from headrace.jobs.log import JobWriter, read_jobs
from headrace.kafka.clients import Cluster
from headrace.observe.health import Health
from headrace.observe.metrics import Metrics
from headrace_ops.ledger.service import METRICS, LedgerService
from headrace_ops.ledger.settings import LedgerSettings
from tests.support.waiting import wait_until


@contextmanager
def ledger(cluster: Cluster) -> Iterator[None]:
    """A ledger that keeps books meanwhile."""
    stop = threading.Event()
    service = LedgerService(LedgerSettings(), cluster, Health(), Metrics(METRICS))
    thread = threading.Thread(target=service.run, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive(), "the ledger did not stop"


def stopped_job(cluster: Cluster, job: str, groups: Collection[str]) -> dict[str, Any]:
    """Stop a standing job whose files all these groups must have, and what a ledger then says of it."""
    wanted = Wanted(tuple(sorted(groups)), standing=True)
    JobWriter(cluster).write(command_for(job, "watch", wanted, "stop"))

    def stopped() -> dict[str, Any] | None:
        known = read_jobs(cluster, job)[job].job
        assert known is not None, "the ledger has written nothing"
        assert known.state == "stopped", f"{known.state}: {known.reason}"
        return msgspec.to_builtins(known)  # type: ignore[no-any-return]

    with ledger(cluster):
        return wait_until(stopped, within=30) or {}
