"""`headrace archive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.cli import runtime


def archive(
    context: typer.Context,
    bucket: Annotated[str | None, typer.Option(help="Bucket to store the files in.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of the S3 service; without it Amazon's own.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(help="Begins the name of every object.")] = None,
    region: Annotated[str | None, typer.Option(help="Region of the bucket.")] = None,
    access_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the access key id; else the AWS environment.")
    ] = None,
    secret_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the secret key, readable by its owner alone.")
    ] = None,
    template: Annotated[str | None, typer.Option(help="Name of an object: {source}/{date}/{path}.")] = None,
    sink: Annotated[str | None, typer.Option(help="Name of this destination: its copies share the work.")] = None,
    create_bucket: Annotated[bool | None, typer.Option(help="Create the bucket if it does not exist.")] = None,
    incomplete_after: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Give up a file that no frame came of for this long.")
    ] = None,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port of /metrics and /healthz, auto, or 0 for none.")
    ] = None,
) -> None:
    """Store files from Kafka in an object store, until SIGTERM or Ctrl-C.

    Every version of every file becomes an object once all of it is there and its hash is right. Nothing is kept on this
    machine. Start the command again, here or elsewhere, and the copies share the work.
    """
    overrides = {
        "bucket": bucket,
        "endpoint": endpoint,
        "prefix": prefix,
        "region": region,
        "access_key_file": access_key_file,
        "secret_key_file": secret_key_file,
        "template": template,
        "sink": sink,
        "create_bucket": create_bucket,
        "incomplete_after": incomplete_after,
        "metrics_port": metrics_port,
    }
    runtime.serve(context, "archiver", overrides)
