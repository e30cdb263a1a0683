"""What earlier loads have put on the log."""

from __future__ import annotations

from headrace.errors import ConfigError
from headrace.events import FileEvent
from headrace.jobs.evidence import evidence_in
from headrace.jobs.log import read_jobs
from headrace.kafka.clients import Cluster
from headrace.kafka.reading import read_now
from headrace.topics import FILES
from headrace_art.loading.request import KIND, STUDENTS


class NoStudentFile(ConfigError):
    """There is no student file of {job} on the log. Give one with -f, or another load with --of: headrace jobs list."""

    code = "no-student-file"


def student_file(cluster: Cluster, job: str | None) -> FileEvent:
    """The student file that a load sent, or the last load that sent one. Raises NoStudentFile, KafkaUnreachable."""
    loads = {name for name, known in read_jobs(cluster, job).items() if known.wanted and known.wanted.kind == KIND}
    newest: FileEvent | None = None
    for batch in read_now(cluster, FILES):
        for message in batch:
            event = evidence_in(message, FileEvent)
            if event is None or event.dataset != STUDENTS or event.job not in loads or event.state != "announced":
                continue
            if newest is None or event.at >= newest.at:
                newest = event
    if newest is None:
        raise NoStudentFile(job=job or "any load")
    return newest
