"""A broker that asks who is there: listeners with TLS and passwords, certificates good and bad, users, access lists."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives import serialization

from headrace.broker import EmbeddedBroker, free_port
from headrace.config import KafkaSettings

Way = Literal["password", "certificate"]

PASSWORD = "correct horse"
ITERATIONS = 4096


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own, and what it signed; `folder` holds PEM files."""

    folder: Path
    signer: trustme.CA

    @classmethod
    def new(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        made = cls(folder, trustme.CA())
        made.signer.cert_pem.write_to_path(str(made.bundle))
        return made

    @property
    def bundle(self) -> Path:
        """Whom a client should trust."""
        return self.folder / "ca.pem"

    def issue(self, name: str, *hosts: str, expired: bool = False) -> tuple[Path, Path]:
        """A certificate and its key; `name` is the common name, by which Kafka knows a client."""
        after = datetime.now(UTC) - timedelta(days=1) if expired else None
        # Java refuses a certificate with an empty list of names.
        issued = self.signer.issue_cert(*(hosts or (f"{name}.example",)), common_name=name, not_after=after)
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(str(key))
        return certificate, key


class Secured:
    """A running broker that listens openly (who comes there may do all), with SASL_SSL, and with mutual TLS.

    Two more listeners have certificates that nobody should trust: one for another host, and one that ran out yesterday.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.new(folder / "authority")
        store = self._store(folder, "broker", "127.0.0.1")
        elsewhere = self._store(folder, "elsewhere", "kafka.example")
        late = self._store(folder, "late", "127.0.0.1", expired=True)
        self.sasl_port, self.tls_port, self.elsewhere_port, self.late_port = (free_port() for _ in range(4))
        listeners = ",".join(
            f"{name}://127.0.0.1:{port}"
            for name, port in (
                ("PASSWORDS", self.sasl_port),
                ("CERTIFICATES", self.tls_port),
                ("ELSEWHERE", self.elsewhere_port),
                ("LATE", self.late_port),
            )
        )
        self.broker = EmbeddedBroker(
            folder / "broker",
            free_port(),
            fast_start=True,
            extra={
                "listeners": listeners,
                "advertised.listeners": listeners,
                "listener.security.protocol.map": "PASSWORDS:SASL_SSL,CERTIFICATES:SSL,ELSEWHERE:SSL,LATE:SSL",
                "listener.name.passwords.sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.passwords.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
                "listener.name.certificates.ssl.client.auth": "required",
                "listener.name.certificates.ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/,DEFAULT",
                "listener.name.elsewhere.ssl.keystore.location": str(elsewhere),
                "listener.name.late.ssl.keystore.location": str(late),
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(store),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.authority.bundle),
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS;User:operator",
            },
        )
        self.broker.start()

    def _store(self, folder: Path, name: str, host: str, *, expired: bool = False) -> Path:
        """A certificate of the broker's, with its key, as Kafka reads them."""
        certificate, key = self.authority.issue(name, host, expired=expired)
        store = folder / f"{name}.pem"
        store.touch(mode=0o600)
        store.write_bytes(_pkcs8(key.read_bytes()) + certificate.read_bytes())
        return store

    @property
    def open_bootstrap(self) -> str:
        """For the test's own look at the log."""
        return self.broker.bootstrap

    @property
    def sasl_bootstrap(self) -> str:
        return f"127.0.0.1:{self.sasl_port}"

    @property
    def tls_bootstrap(self) -> str:
        return f"127.0.0.1:{self.tls_port}"

    def admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.open_bootstrap})

    def add_user(self, name: str, password: str = PASSWORD) -> None:
        """A user who may log in with a password."""
        credential = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        wanted = UserScramCredentialUpsertion(name, credential, password.encode(), os.urandom(16))
        admin = self.admin()
        for future in admin.alter_user_scram_credentials([wanted]).values():
            future.result(10)

    def with_password(self, user: str, prefix: str, password: str = PASSWORD, **changed: str) -> KafkaSettings:
        """How `user` comes in through SASL_SSL; `changed` are properties with underscores for dots."""
        return KafkaSettings(
            bootstrap=self.sasl_bootstrap, prefix=prefix, partitions=3, sasl_password=password,  # type: ignore[arg-type]
            properties=self.password_properties(user) | _dotted(changed),
        )  # fmt: skip

    def password_properties(self, user: str) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "ssl.ca.location": str(self.authority.bundle),
        }

    def with_certificate(self, user: str, prefix: str, **changed: str) -> KafkaSettings:
        """How `user` comes in through mutual TLS."""
        return KafkaSettings(
            bootstrap=self.tls_bootstrap, prefix=prefix, partitions=3,
            properties=self.certificate_properties(user) | _dotted(changed),
        )  # fmt: skip

    def at_port(self, port: int) -> KafkaSettings:
        """How anybody comes in through TLS at a port."""
        properties = {"security.protocol": "SSL", "ssl.ca.location": str(self.authority.bundle)}
        return KafkaSettings(bootstrap=f"127.0.0.1:{port}", properties=properties)

    def certificate_properties(self, user: str, *, expired: bool = False) -> dict[str, str]:
        certificate, key = self.authority.issue(user, expired=expired)
        return {
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.authority.bundle),
            "ssl.certificate.location": str(certificate),
            "ssl.key.location": str(key),
        }

    def write_settings(self, folder: Path, prefix: str, user: str, way: Way, more: str = "") -> Path:
        """A headrace.toml for `user`, with the password in a file of its own."""
        password = folder / "password"
        password.touch(mode=0o600)
        password.write_text(PASSWORD + "\n")
        properties = self.password_properties(user) if way == "password" else self.certificate_properties(user)
        lines = [
            "[kafka]",
            f'bootstrap = "{self.sasl_bootstrap if way == "password" else self.tls_bootstrap}"',
            f'prefix = "{prefix}"',
            "partitions = 3",
            *([f'sasl_password_file = "{password}"'] if way == "password" else []),
            "[kafka.properties]",
            *(f'"{name}" = "{value}"' for name, value in properties.items()),
            more,
        ]
        file = folder / "headrace.toml"
        file.write_text("\n".join(lines) + "\n")
        return file

    def close(self) -> None:
        self.broker.kill()


@contextmanager
def secured(folder: Path) -> Iterator[Secured]:
    """A secured broker that is ended at the end."""
    broker = Secured(folder)
    try:
        yield broker
    finally:
        broker.close()


def _pkcs8(key: bytes) -> bytes:
    """The key in the only form that Java reads."""
    return serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _dotted(properties: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "."): value for name, value in properties.items()}
