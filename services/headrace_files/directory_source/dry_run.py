"""What a watcher would send, without sending it."""

from __future__ import annotations

import os
import time

import typer

from headrace.kafka.clients import Cluster
from headrace.topics import Topic
from headrace_files.directory_source.scan import Walk, look_at_file
from headrace_files.directory_source.service import make_tree, options_of
from headrace_files.directory_source.settings import DirectorySourceSettings
from headrace_files.sending.snapshot import printable


def show(settings: DirectorySourceSettings, cluster: Cluster, topic: Topic) -> None:
    """Print each file that would be sent to `topic`, one a line, and the sum.

    Raises MissingTopic or KafkaUnreachable.
    """
    root = os.path.realpath(os.fsencode(settings.root))
    tree = make_tree(settings, root, options_of(settings, topic))
    tree.log.read(cluster)
    now, wall = time.monotonic(), time.time()
    for path, status in Walk(root).files():
        tree.seen(path, status, now, wall)
    files = size = 0
    while (found := tree.next_ready(float("inf"))) is not None:
        path, mark = found
        there = look_at_file(root, path)
        job = tree.job(path, mark, there, now)
        if job is None or there is None:
            continue
        begun = job.previous.acked if job.previous is not None else 0
        note = f"  (from byte {begun} at the most)" if begun else ""
        typer.echo(f"{there.st_size:>15,}  {printable(path)}{note}")
        files += 1
        size += there.st_size
    typer.echo(f"{files} files, {size:,} bytes would be sent; {tree.settled} files are sent already.")
