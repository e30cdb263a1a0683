"""The S3 server of demonstrations and tests: it keeps objects, and it is one that S3's conditions hold on."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest
from botocore.exceptions import ClientError

from headrace.sandbox.s3 import S3PortTaken, S3Server

pytestmark = pytest.mark.s3


def real(server: S3Server) -> S3Server:
    if server.kind != "versitygw":
        pytest.skip("moto stands in for versitygw, since there is no Go toolchain")
    return server


def test_objects_survive_a_kill(own_s3: S3Server) -> None:
    client = real(own_s3).client()
    own_s3.create_bucket("kept")
    client.put_object(Bucket="kept", Key="a/b", Body=b"bytes")
    own_s3.kill()
    assert own_s3.pid is None
    own_s3.start()
    assert client.get_object(Bucket="kept", Key="a/b")["Body"].read() == b"bytes"


def test_a_conditional_put_keeps_what_is_there(s3: S3Server, bucket: str) -> None:
    client = s3.client()
    client.put_object(Bucket=bucket, Key="once", Body=b"first", IfNoneMatch="*")
    with pytest.raises(ClientError) as raised:
        client.put_object(Bucket=bucket, Key="once", Body=b"second", IfNoneMatch="*")
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 412
    assert client.get_object(Bucket=bucket, Key="once")["Body"].read() == b"first"


def test_old_versions_are_kept_when_asked_for(s3: S3Server, bucket: str) -> None:
    client = s3.client()
    client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    first = client.put_object(Bucket=bucket, Key="key", Body=b"first")["VersionId"]
    client.put_object(Bucket=bucket, Key="key", Body=b"second")
    assert client.get_object(Bucket=bucket, Key="key", VersionId=first)["Body"].read() == b"first"


def test_creating_a_bucket_twice_changes_nothing(s3: S3Server, bucket: str) -> None:
    assert s3.create_bucket(bucket) == bucket


def test_the_secret_is_on_no_command_line(s3: S3Server) -> None:
    assert not [argument for argument in psutil.Process(s3.pid).cmdline() if s3.secret_key in argument]


def test_a_taken_port_is_named(tmp_path: Path, s3: S3Server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(S3PortTaken, match=str(port)):
            S3Server(tmp_path, port=port).start()
