"""`headrace bridge`."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.cli import runtime


def bridge(
    context: typer.Context,
    topic: Annotated[
        str | None, typer.Argument(metavar="TOPIC", help="Topic that OpenMSIStream writes to; its name as it is.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Name of the sender on the log; default: openmsi- and the topic.")
    ] = None,
    sink: Annotated[
        str | None, typer.Option(help="Name of this bridge: its copies share the work; default: the topic.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Name of the dataset that the files belong to.")] = None,
    copies: Annotated[int | None, typer.Option(help="Members of the group in this process.")] = None,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port of /metrics and /healthz, auto, or 0 for none.")
    ] = None,
) -> None:
    """Bring over the files of an OpenMSIStream topic, until SIGTERM or Ctrl-C.

    Its chunks become chunks of Headrace, so `headrace assemble`, `archive` and `verify` work on them. OpenMSIStream's
    own readers are not disturbed: nothing is written to that topic.
    """
    overrides = {
        "topic": topic,
        "source": source,
        "sink": sink,
        "dataset": dataset,
        "copies": copies,
        "metrics_port": metrics_port,
    }
    runtime.serve(context, "openmsi_bridge", overrides)
