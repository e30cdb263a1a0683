"""One load as a job: its files are sent, then it is followed until every line is accounted for."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.cli.runtime import Session
from headrace.cli.source_job import SourceJob
from headrace.families import stage_named
from headrace.jobs.assessment import Exit
from headrace.jobs.evidence import Evidence, read_evidence
from headrace.kafka.clients import Cluster
from headrace.sending_once import Around, FileResult, Watcher
from headrace_art.loading.last_entities import take_last_entities
from headrace_art.loading.request import LoadOptions
from headrace_art.loading.settings import ArtLoadSettings


def load_under(
    job: SourceJob,
    session: Session,
    cluster: Cluster,
    options: LoadOptions,
    settings: ArtLoadSettings,
    watcher: Watcher,
) -> Exit:
    """Send what is not on the log under the job yet, and follow it until its books balance."""
    if not job.sends:
        return job.leave()
    job.begin()
    if options.entities == "last":
        take_last_entities(cluster, job.job)
    results = send(job, session, cluster, options, settings, watcher)
    if job.told_to_stop():
        return job.finish()
    if any(result.result == "stopped" for result in results):
        return job.leave()
    job.announced_all(read_evidence(cluster, job.job).books.words()["announced"])
    code = job.finish()
    if code is Exit.DETACHED:
        return code
    failed = any(result.result == "failed" for result in results)
    return Exit.FAILED if failed or _refused(job, cluster) else code


def send(
    job: SourceJob,
    session: Session,
    cluster: Cluster,
    options: LoadOptions,
    settings: ArtLoadSettings,
    watcher: Watcher,
) -> list[FileResult]:
    """Send the files, the schools first; without schools that were asked for no students are sent."""
    send_once = stage_named(options.source).load_send_once()
    results: list[FileResult] = []
    for file in options.files(settings):
        if any(result.result in ("failed", "stopped") for result in results):
            watcher.say("skipped", file.path, reason="the schools did not come; --entities=last does without them")
            break
        around = Around(
            cluster, session.settings, session.sources, job.job, job.groups, options.day, job.asked.leave, watcher
        )
        results += send_once([file], around)
    return results


def _refused(job: SourceJob, cluster: Cluster) -> bool:
    """Whether a whole file was refused; the job's books say that one was put aside, which a bad row does as well."""
    found = refused_files(read_evidence(cluster, job.job), job.groups)
    for name, code in found:
        job.report.note(f"{name} was refused as a whole ({code}): nothing of it was loaded")
    return bool(found)


def refused_files(evidence: Evidence, groups: Sequence[str]) -> list[tuple[str, str]]:
    """Files of which nothing became a record: name and code."""
    found = []
    for group in groups:
        for file, _ in evidence.books.files_with(group, frozenset({"dead_lettered", "failed"})):
            event = evidence.versions.get(file)
            if event is not None and file not in evidence.books.lines.fanned:
                name = event.path.decode("utf-8", "backslashreplace")
                found.append((name, evidence.codes.get((file, group), "failed")))
    return sorted(found)
