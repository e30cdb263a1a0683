"""One load as a job: its files are sent, then it is followed until every line is accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from headrace.cli.runtime import Session
from headrace.cli.source_job import SourceJob
from headrace.errors import ConfigError, FatalError
from headrace.families import stage_named
from headrace.jobs.assessment import Exit
from headrace.jobs.evidence import Evidence, read_evidence
from headrace.kafka.clients import Cluster
from headrace.sending_once import Around, FileResult, Watcher
from headrace_art.loading.last_entities import take_last_entities
from headrace_art.loading.request import SCHOOLS, LoadOptions
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
    try:
        results = send(job, session, cluster, options, settings, watcher)
    except (ConfigError, FatalError) as error:
        job.fail(_announced(cluster, job), str(error))
        raise
    if job.told_to_stop():
        return job.finish()
    if any(result.result == "stopped" for result in results):
        return job.leave()
    problem = next((each.reason or f"{each.path}: {each.code}" for each in results if each.result == "failed"), None)
    job.announced_all(_announced(cluster, job), problem)
    code = job.finish()
    if code is Exit.DETACHED:
        return code
    return Exit.FAILED if _refused(job, cluster) else code


def send(
    job: SourceJob,
    session: Session,
    cluster: Cluster,
    options: LoadOptions,
    settings: ArtLoadSettings,
    watcher: Watcher,
) -> list[FileResult]:
    """Send the files, the schools first; unless these are there and can be read no students are sent."""
    send_once = stage_named(options.source).load_send_once()
    results: list[FileResult] = []
    files = options.files(settings)
    for number, file in enumerate(files):
        around = Around(
            cluster, session.settings, session.sources, job.job, job.groups, options.day, job.asked.leave, watcher
        )
        results += send_once([file], around)
        left = files[number + 1 :]
        if left and not any(result.result in ("failed", "stopped") for result in results):
            results[-1] = _read(job, cluster, results[-1])
        if any(result.result in ("failed", "stopped") for result in results):
            for each in left:
                watcher.say(
                    "skipped", each.path, reason="it has no schools; --entities=last takes those confirmed last"
                )
            break
    return results


def _read(job: SourceJob, cluster: Cluster, sent: FileResult) -> FileResult:
    """Wait until the file is read by the fan-out; what came of that.

    Students of a load wait for its schools, so it must be known that there are any before students are on the log.
    """
    (fan_out,) = job.groups
    if not job.is_said(fan_out, _announced(cluster, job)):
        return replace(sent, result="stopped")
    evidence = read_evidence(cluster, job.job)
    # A file that was there already is known by its size alone.
    files = [
        file
        for file, event in evidence.versions.items()
        if event.dataset == SCHOOLS and (file == sent.file or (sent.file is None and event.size == sent.size))
    ]
    if any(file in evidence.books.lines.fanned for file in files):
        return sent
    code = next((code for file in files if (code := evidence.codes.get((file, fan_out)))), "failed")
    return replace(sent, result="failed", code=code, reason=f"{sent.path} was refused as a whole ({code})")


def _announced(cluster: Cluster, job: SourceJob) -> int:
    return read_evidence(cluster, job.job).books.words()["announced"]


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
