"""Whether Kafka can be reached with the settings, and if not, why: what an operator must change, or what may pass.

librdkafka tries again for ever and says of every certificate that it "could not be verified". So the first contact is
made here, and where it fails, the first server of the list is looked at with a connection of our own.
"""

from __future__ import annotations

import concurrent.futures
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import confluent_kafka
from confluent_kafka.admin import AdminClient

from headrace.errors import ConfigError, HeadraceError, TransientError

Client = TypeVar("Client")

REACH_SECONDS = 4.0
LOOK_SECONDS = 1.5
DEFAULT_PORT = 9092
_POLL = 0.05  # seconds between two looks for the answer

# ApiVersions, version 0, the question that every Kafka answers before a login. Source: Kafka protocol guide.
_CLIENT = b"headrace-look"
_QUESTION = struct.pack(">ihhih", 10 + len(_CLIENT), 18, 0, 1, len(_CLIENT)) + _CLIENT


class KafkaUnreachable(TransientError):
    """Kafka at {bootstrap} does not answer: {problem}; trying again in {retry_after} s."""

    code = "kafka-unreachable"
    default_retry_after = 2.0


class KafkaPropertiesRefused(ConfigError):
    """The client does not take what is set under [kafka.properties]: {problem}. See librdkafka's CONFIGURATION.md."""

    code = "kafka-properties-refused"


class KafkaLoginRefused(ConfigError):
    """Kafka at {bootstrap} refuses the login: {problem}. Check sasl.username and sasl.mechanism under [kafka.properties], and kafka.sasl_password or the file that kafka.sasl_password_file names."""  # noqa: E501

    code = "kafka-login-refused"


class KafkaNotTrusted(ConfigError):
    """The certificate of Kafka at {bootstrap} is not accepted: {problem}. {remedy}"""  # noqa: D400 - the remedy is a sentence

    code = "kafka-not-trusted"


class CertificateRefused(ConfigError):
    """Kafka at {bootstrap} does not accept our certificate ({problem}). Under [kafka.properties], ssl.certificate.location and ssl.key.location must name one that has not expired and is signed by an authority that Kafka trusts; openssl x509 -noout -dates -issuer -in FILE shows both."""  # noqa: E501

    code = "certificate-refused"


class WrongProtocol(ConfigError):
    """Kafka at {bootstrap} {found}, but security.protocol is {protocol}. Under [kafka.properties] set security.protocol = {remedy}."""  # noqa: E501

    code = "wrong-protocol"


def reach(properties: Mapping[str, Any], seconds: float = REACH_SECONDS) -> None:
    """Return once Kafka answers a client with these librdkafka properties.

    Raises KafkaUnreachable if it does not within `seconds`, KafkaPropertiesRefused, KafkaLoginRefused, KafkaNotTrusted,
    CertificateRefused or WrongProtocol as soon as that is clear.
    """
    bootstrap = str(properties["bootstrap.servers"])
    errors: list[confluent_kafka.KafkaError] = []
    admin = client(AdminClient, {**properties, "error_cb": errors.append, "log_level": 0})
    answer = admin.describe_cluster(request_timeout=seconds)
    deadline = time.monotonic() + seconds
    looked = False
    while not answer.done() and time.monotonic() < deadline:
        admin.poll(0)
        concurrent.futures.wait([answer], _POLL)
        for error in errors:
            if error.code() == confluent_kafka.KafkaError._AUTHENTICATION:  # noqa: SLF001 - its only name
                raise KafkaLoginRefused(bootstrap=bootstrap, problem=_words(error))
        if errors and not looked:
            looked = True
            found = look(properties)
            if isinstance(found, ConfigError):
                raise found
    if answer.done() and answer.exception() is None:
        return
    raise look(properties) or KafkaUnreachable(
        bootstrap=bootstrap,
        problem=f"it takes connections, but says nothing within {seconds:g} s; if it wants a login, "
        "set security.protocol under [kafka.properties]",
    )


def look(properties: Mapping[str, Any]) -> HeadraceError | None:
    """What is wrong with the way to the first server of the list, as far as can be seen without a login."""
    bootstrap = str(properties["bootstrap.servers"])
    host, port = _first(bootstrap)
    protocol = str(properties.get("security.protocol", "plaintext")).upper()
    try:
        with socket.create_connection((host, port), LOOK_SECONDS) as connection:
            if "SSL" in protocol:
                return _look_at_tls(connection, host, bootstrap, protocol, properties)
            if _speaks_tls(host, port):
                remedy = "SASL_SSL" if protocol.startswith("SASL") else "SSL, or SASL_SSL if it wants a login"
                return WrongProtocol(bootstrap=bootstrap, found="speaks TLS", protocol=protocol, remedy=remedy)
    except socket.gaierror:
        problem = f"the name {host} is not known here; check its spelling and the DNS"
    except ConnectionRefusedError:
        problem = f"nothing listens on port {port} of {host} (connection refused)"
    except TimeoutError:
        problem = f"no connection to {host}:{port} within {LOOK_SECONDS:g} s; it is down, or a firewall is between"
    except OSError as error:
        problem = f"no connection to {host}:{port} ({error.strerror or type(error).__name__})"
    else:
        return None
    return KafkaUnreachable(bootstrap=bootstrap, problem=problem)


def client(kind: Callable[[dict[str, Any]], Client], properties: Mapping[str, Any]) -> Client:
    """A librdkafka client of this kind.

    Raises KafkaPropertiesRefused for a property or a file that it does not take.
    """
    try:
        return kind(dict(properties))
    except confluent_kafka.KafkaException as error:
        raise KafkaPropertiesRefused(problem=error.args[0].str().rstrip(".")) from error


def _look_at_tls(
    connection: socket.socket, host: str, bootstrap: str, protocol: str, properties: Mapping[str, Any]
) -> HeadraceError | None:
    try:
        with _context(properties).wrap_socket(connection, server_hostname=host) as secured:
            # With TLS 1.3 a server says what it thinks of our certificate only after the handshake.
            secured.sendall(_QUESTION)
            secured.recv(4)
    except ssl.SSLCertVerificationError as error:
        return KafkaNotTrusted(bootstrap=bootstrap, problem=error.verify_message.rstrip("."), remedy=_remedy(error))
    except TimeoutError:
        return None
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):
            return CertificateRefused(bootstrap=bootstrap, problem=str(error.reason).lower().replace("_", " "))
    except ConnectionError:
        pass
    else:
        return None
    return _no_tls(bootstrap, protocol)


def _no_tls(bootstrap: str, protocol: str) -> WrongProtocol | None:
    """A handshake that broke off may be that of a Kafka going down; one that answers without TLS does not speak it."""
    try:
        with socket.create_connection(_first(bootstrap), LOOK_SECONDS) as connection:
            connection.sendall(_QUESTION)
            answered = bool(connection.recv(4))
    except OSError:
        return None
    if not answered:
        return None
    remedy = "SASL_PLAINTEXT" if protocol.startswith("SASL") else "PLAINTEXT, or use the port of its TLS listener"
    return WrongProtocol(bootstrap=bootstrap, found="does not speak TLS", protocol=protocol, remedy=remedy)


def _remedy(error: ssl.SSLCertVerificationError) -> str:
    # Numbers of X.509 verification results. Source: OpenSSL 3, x509_vfy.h.
    if error.verify_code in (9, 10):
        return "It must be renewed where Kafka runs; if it is new, check the clock of this machine."
    if error.verify_code in (62, 64):
        return "kafka.bootstrap must use a name that stands in it; openssl x509 -noout -ext subjectAltName shows them."
    return "Set ssl.ca.location under [kafka.properties] to the PEM file of the authority that signed it."


def _context(properties: Mapping[str, Any]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if authority := properties.get("ssl.ca.location"):
        context = ssl.create_default_context(cafile=str(authority))
    if str(properties.get("ssl.endpoint.identification.algorithm", "https")).lower() == "none":
        context.check_hostname = False
    if str(properties.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    certificate, key = properties.get("ssl.certificate.location"), properties.get("ssl.key.location")
    if certificate and key:
        context.load_cert_chain(str(certificate), str(key), str(properties.get("ssl.key.password", "")))
    return context


def _speaks_tls(host: str, port: int) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), LOOK_SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=host),
        ):
            return True
    except OSError:
        return False


def _first(bootstrap: str) -> tuple[str, int]:
    """Host and port of the first server: `kafka.example:9092`, `SSL://kafka:9093`, `[::1]:9092`."""
    server = bootstrap.split(",")[0].strip().rpartition("://")[2]
    host, colon, port = server.rpartition(":")
    if not colon or not port.isdigit():
        return server.strip("[]"), DEFAULT_PORT
    return host.strip("[]"), int(port)


def _words(error: confluent_kafka.KafkaError) -> str:
    """Kafka's own words without the client's: "server/id: what: words (after 3ms in state X)"."""
    return error.str().partition(": ")[2].rpartition(" (after")[0] or error.str()
