"""What verify says of the whole log, and whether it is right."""

from __future__ import annotations

from typing import Any

from headrace.kafka.clients import Cluster
from headrace.proof.report import summary_object
from headrace.proof.verify import Outcome, Verification
from tests.support import books


def summary_of(cluster: Cluster) -> dict[str, Any]:
    """The summary of `headrace verify --json`."""
    outcome = Outcome()
    for _ in Verification(cluster).run(outcome):
        pass
    return summary_object(outcome)


def books_wrong(cluster: Cluster) -> list[str]:
    """Where the books of verify are not those that the raw topics give."""
    return books.wrong_in_verify(books.told(cluster.bootstrap, cluster.settings.prefix), summary_of(cluster))
