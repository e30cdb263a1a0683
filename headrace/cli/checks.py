"""What `headrace config check` looks at. Nothing here changes anything outside."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from headrace.checks import Check, attempt, writable_folder
from headrace.cli.runtime import Session, embedded_broker
from headrace.errors import HeadraceError
from headrace.families import SectionEntry, StageEntry, catalogue
from headrace.kafka.admin import missing
from headrace.kafka.clients import Cluster


def checks(session: Session, services: Iterable[tuple[str, StageEntry | SectionEntry]]) -> list[Check]:
    """Look at Kafka, its topics, the state folder, and what each service is configured to use."""
    results = [*_kafka(session), writable_folder("state", session.settings.state)]
    for name, entry in services:
        try:
            own: Any = session.sources.section(name, entry.load_settings()).values
        except HeadraceError as error:
            results.append(Check(name, False, str(error)))
            continue
        results.append(Check(name, True, "its settings are complete"))
        results.extend(Check(f"{name}: {each.what}", each.well, each.detail) for each in entry.run_check(own))
    return results


def _kafka(session: Session) -> Iterator[Check]:
    settings = session.settings.kafka
    if settings.bootstrap is None:
        broker = embedded_broker(session.settings)
        status = broker.status()
        if not status.answering:
            yield Check("kafka", True, "none is configured; the embedded one is started when it is needed")
            return
        settings = settings.model_copy(update={"bootstrap": broker.bootstrap})
    try:
        cluster = Cluster(settings)
        cluster.reach()
        absent = missing(cluster, catalogue(datasets=session.settings.datasets.folder))
    except HeadraceError as error:
        yield Check("kafka", False, str(error))
        return
    yield Check("kafka", True, f"{cluster.bootstrap} answers")
    if absent:
        yield Check("topics", False, f"missing: {', '.join(absent)}; create them with: headrace topics apply")
    else:
        yield Check("topics", True, "all are there")
    if settings.registry is not None:
        yield attempt("schema registry", cluster.look_at_registry, f"{settings.registry} answers")
