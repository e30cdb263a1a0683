"""Kafka behind TLS: files go through with a password and with a certificate, and what is wrong is said at once."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.broker import free_port
from headrace.config import KafkaSettings
from headrace.kafka.clients import Cluster
from headrace.kafka.connecting import (
    CertificateRefused,
    KafkaLoginRefused,
    KafkaNotTrusted,
    KafkaPropertiesRefused,
    KafkaUnreachable,
    WrongProtocol,
)
from headrace.sandbox.s3 import S3Server
from tests.support.processes import HEADRACE, Service
from tests.support.secured import PASSWORD, Authority, Secured, Way, secured
from tests.support.waiting import wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    with secured(tmp_path_factory.mktemp("secured")) as broker:
        broker.add_user("operator")
        yield broker


def headrace(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEADRACE, *arguments], cwd=folder, env=environment or None, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


@pytest.mark.s3
@pytest.mark.parametrize("way", ["password", "certificate"])
def test_a_file_is_sent_rebuilt_and_archived_over_an_encrypted_link(
    kafka: Secured, prefix: str, tmp_path: Path, s3: S3Server, bucket: str, way: Way
):
    kafka.write_settings(
        tmp_path, prefix, "operator", way,
        f'[assembler]\nroot = "tree"\nsink = "tree"\n[archiver]\nbucket = "{bucket}"\nendpoint = "{s3.endpoint}"\n',
    )  # fmt: skip
    keys = {"HEADRACE_ARCHIVER__ACCESS_KEY": s3.access_key, "HEADRACE_ARCHIVER__SECRET_KEY": s3.secret_key}
    assert headrace(tmp_path, "topics", "apply").returncode == 0
    file = tmp_path / "measured.bin"
    file.write_bytes(bytes(range(256)) * 4096)
    services = [Service(name, tmp_path, ["run", name], keys) for name in ("assembler", "archiver")]
    try:
        for service in services:
            service.start()
        sent = headrace(tmp_path, "upload", file, "--wait", "assembled", "--timeout", "30s")
        assert sent.returncode == 0, sent.stderr
        assert (tmp_path / "tree" / file.name).read_bytes() == file.read_bytes()
        wait_until(lambda: s3.client().list_objects_v2(Bucket=bucket).get("KeyCount") == 1, within=20)
        wait_until(lambda: headrace(tmp_path, "verify").returncode == 0, within=20, every=0.5)
    finally:
        for service in services:
            service.kill()


def test_no_command_shows_the_password(kafka: Secured, prefix: str, tmp_path: Path):
    kafka.write_settings(tmp_path, prefix, "operator", "password")
    shown = headrace(tmp_path, "config", "show", "kafka")
    assert "kafka.sasl_password" in shown.stdout
    checked = headrace(tmp_path, "--log-level", "debug", "config", "check")
    assert "answers" in checked.stdout
    assert PASSWORD not in shown.stdout + shown.stderr + checked.stdout + checked.stderr


def test_a_service_with_a_wrong_password_ends_at_once_with_what_to_do(kafka: Secured, prefix: str, tmp_path: Path):
    kafka.write_settings(tmp_path, prefix, "operator", "password", '[assembler]\nroot = "tree"\nsink = "tree"\n')
    (tmp_path / "password").write_text("wrong")
    for command in (["run", "assembler"], ["up", "assembler"], ["verify"]):
        ended = headrace(tmp_path, *command)
        assert ended.returncode == 2, ended.stderr
        assert "refuses the login" in ended.stderr
        assert "kafka.sasl_password_file" in ended.stderr


def refused(settings: KafkaSettings) -> Exception:
    begun = time.monotonic()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the callers say which
        Cluster(settings).reach()
    assert time.monotonic() - begun < 8
    return caught.value


def test_an_authority_that_nobody_named_is_not_trusted(kafka: Secured, prefix: str, tmp_path: Path):
    other = Authority.new(tmp_path)
    error = refused(kafka.with_password("operator", prefix, ssl_ca_location=str(other.bundle)))
    assert isinstance(error, KafkaNotTrusted)
    assert "ssl.ca.location" in str(error)


def test_a_certificate_for_another_host_is_not_trusted(kafka: Secured):
    error = refused(kafka.at_port(kafka.elsewhere_port))
    assert isinstance(error, KafkaNotTrusted)
    assert "not valid for '127.0.0.1'" in str(error)
    assert "kafka.bootstrap" in str(error)


def test_a_certificate_that_ran_out_is_not_trusted(kafka: Secured):
    error = refused(kafka.at_port(kafka.late_port))
    assert isinstance(error, KafkaNotTrusted)
    assert "expired" in str(error)
    assert "renewed" in str(error)


def test_a_certificate_of_ours_that_kafka_does_not_accept_is_named(kafka: Secured, prefix: str, tmp_path: Path):
    certificate, key = Authority.new(tmp_path).issue("operator")
    strange = kafka.with_certificate(
        "operator", prefix, ssl_certificate_location=str(certificate), ssl_key_location=str(key)
    )
    old = KafkaSettings(bootstrap=kafka.tls_bootstrap, properties=kafka.certificate_properties("late", expired=True))
    for settings in (strange, old):
        error = refused(settings)
        assert isinstance(error, CertificateRefused)
        assert "ssl.certificate.location" in str(error)


def test_a_listener_that_speaks_another_protocol_is_told_from_one_that_is_away(kafka: Secured, prefix: str):
    for bootstrap, protocol, wanted in (
        (kafka.tls_bootstrap, "PLAINTEXT", "SSL"),
        (kafka.open_bootstrap, "SSL", "PLAINTEXT"),
    ):
        error = refused(KafkaSettings(bootstrap=bootstrap, properties={"security.protocol": protocol}))
        assert isinstance(error, WrongProtocol)
        assert f"set security.protocol = {wanted}" in str(error)
    error = refused(kafka.at_port(kafka.sasl_port))
    assert isinstance(error, KafkaUnreachable)
    assert "login" in str(error)


def test_a_mechanism_that_kafka_does_not_have_is_a_refused_login(kafka: Secured, prefix: str):
    error = refused(kafka.with_password("operator", prefix, sasl_mechanism="SCRAM-SHA-256"))
    assert isinstance(error, KafkaLoginRefused)
    assert "SCRAM-SHA-512" in str(error)


def test_a_property_that_the_client_does_not_know_is_named(prefix: str):
    error = refused(KafkaSettings(bootstrap="127.0.0.1:9", properties={"securty.protocol": "SSL"}))
    assert isinstance(error, KafkaPropertiesRefused)
    assert "securty.protocol" in str(error)


def test_refused_connections_unknown_names_and_silence_are_told_apart():
    problems = {f"127.0.0.1:{free_port()}": "connection refused", "kafka.invalid:9092": "the name kafka.invalid is not"}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        problems[f"127.0.0.1:{silent.getsockname()[1]}"] = "says nothing"
        for bootstrap, problem in problems.items():
            error = refused(KafkaSettings(bootstrap=bootstrap))
            assert isinstance(error, KafkaUnreachable)
            assert problem in str(error)


def test_a_service_waits_for_a_kafka_that_is_away_and_says_so_soon(tmp_path: Path):
    (tmp_path / "headrace.toml").write_text(
        f'[kafka]\nbootstrap = "127.0.0.1:{free_port()}"\n[assembler]\nroot = "tree"\nsink = "tree"\n'
    )
    begun = time.monotonic()
    checked = headrace(tmp_path, "config", "check")
    assert time.monotonic() - begun < 8
    assert checked.returncode == 1
    assert "connection refused" in checked.stdout
    service = Service("assembler", tmp_path, ["run", "assembler"], {})
    service.start()
    try:
        wait_until(lambda: service.said("connection refused"), within=8)
        service.stop()
    finally:
        service.kill()
