"""Connecting to a server: its host key is checked before anything is said that it should not hear."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from headrace_files.sftp_source.errors import (
    ConnectionLost,
    HostKeyRefused,
    HostKeyUnknown,
    KeyUnusable,
    LoginRefused,
    NoCommonCipher,
    NoCredentials,
    ServerUnreachable,
)
from headrace_files.sftp_source.protocol import Reader
from headrace_files.sftp_source.settings import SftpSourceSettings

PACKET = 256 * 1024
WINDOW = 8 * 1024 * 1024
KEEP_ALIVE = 15
"""Seconds between two signs of life, so that no firewall forgets us."""
DEFAULT_PORT = 22

_RSA = ("rsa-sha2-512", "rsa-sha2-256")
_KINDS: tuple[type[paramiko.PKey], ...] = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


@contextmanager
def connected(settings: SftpSourceSettings) -> Iterator[Reader]:
    """A connection that is logged in and ready to be asked for files.

    Raises ServerUnreachable or ConnectionLost for what may pass; HostKeyUnknown, HostKeyRefused, LoginRefused,
    KeyUnusable, NoCredentials, NoCommonCipher for what somebody must see to.
    """
    key = _private_key(settings)
    if key is None and settings.password is None:
        raise NoCredentials(user=settings.user, host=settings.host)
    known = None if settings.fingerprint else _known_hosts(settings)
    timeout = settings.timeout.total_seconds()
    try:
        link = socket.create_connection((settings.host, settings.port), timeout)
    except OSError as error:
        raise ServerUnreachable(host=settings.host, problem=error.strerror or str(error)) from error
    transport = paramiko.Transport(link, default_window_size=WINDOW, default_max_packet_size=PACKET)
    try:
        transport.banner_timeout = transport.auth_timeout = timeout
        _prefer(transport, settings, known)
        try:
            transport.start_client(timeout=timeout)
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise NoCommonCipher(host=settings.host, problem=error) from error
        _check_host_key(transport.get_remote_server_key(), settings, known)
        _log_in(transport, settings, key)
        transport.set_keepalive(KEEP_ALIVE)
        channel = transport.open_session(timeout=timeout)
        channel.settimeout(timeout)
        channel.invoke_subsystem("sftp")
        yield Reader(channel, settings.host)
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise ConnectionLost(host=settings.host, problem=str(error) or type(error).__name__) from error
    finally:
        transport.close()


def host_name(settings: SftpSourceSettings) -> str:
    """The host as known_hosts names it. Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"."""
    return settings.host if settings.port == DEFAULT_PORT else f"[{settings.host}]:{settings.port}"


def _known_hosts(settings: SftpSourceSettings) -> dict[str, paramiko.PKey]:
    """The keys that are known of the host, by kind."""
    place = settings.known_hosts.expanduser()
    keys = paramiko.HostKeys()
    try:
        keys.load(str(place))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise KeyUnusable(path=place, problem=error.strerror) from error
    found = keys.lookup(host_name(settings))
    return {} if found is None else {kind: found[kind] for kind in found}


def _prefer(
    transport: paramiko.Transport, settings: SftpSourceSettings, known: dict[str, paramiko.PKey] | None
) -> None:
    options = transport.get_security_options()
    offered = set(options.ciphers)
    ciphers = [cipher for cipher in settings.ciphers if cipher in offered]
    if not ciphers:
        raise NoCommonCipher(host=settings.host, problem=f"known here are {', '.join(sorted(offered))}")
    options.ciphers = ciphers
    if known:
        # The server may have keys of several kinds: it is to show one that we know.
        names = [name for kind in known for name in (_RSA if kind == "ssh-rsa" else (kind,))]
        kinds = [kind for kind in options.key_types if kind in names]
        if kinds:
            options.key_types = kinds


def _check_host_key(shown: paramiko.PKey, settings: SftpSourceSettings, known: dict[str, paramiko.PKey] | None) -> None:
    details = {"host": host_name(settings), "kind": shown.get_name(), "fingerprint": shown.fingerprint}
    if settings.fingerprint is not None:
        if shown.fingerprint.rstrip("=") != settings.fingerprint.rstrip("="):
            raise HostKeyRefused(**details, expected=settings.fingerprint)
        return
    if not known:
        raise HostKeyUnknown(**details, known_hosts=settings.known_hosts)
    expected = known.get(shown.get_name())
    if expected is None or expected.asbytes() != shown.asbytes():
        others = ", ".join(key.fingerprint for key in known.values())
        raise HostKeyRefused(**details, expected=expected.fingerprint if expected else others)


def _log_in(transport: paramiko.Transport, settings: SftpSourceSettings, key: paramiko.PKey | None) -> None:
    what = "its key" if key is not None else "its password"
    try:
        if key is not None:
            left = transport.auth_publickey(settings.user, key)
            if left and settings.password is not None:
                what = "its key and password"
                left = transport.auth_password(settings.user, settings.password.get_secret_value())
        elif settings.password is not None:
            left = transport.auth_password(settings.user, settings.password.get_secret_value())
    except paramiko.BadAuthenticationType as error:
        problem = f"it wants {', '.join(error.allowed_types)}"
        raise LoginRefused(host=settings.host, user=settings.user, what=what, problem=problem) from error
    except paramiko.AuthenticationException as error:
        if not transport.is_active():
            # paramiko calls a link that is cut while it logs in a refusal, too; that one is worth another try.
            raise ConnectionLost(host=settings.host, problem="it hung up during the login") from error
        raise LoginRefused(host=settings.host, user=settings.user, what=what, problem="refused") from error
    if left:
        problem = f"it also wants {', '.join(left)}"
        raise LoginRefused(host=settings.host, user=settings.user, what=what, problem=problem)


def _private_key(settings: SftpSourceSettings) -> paramiko.PKey | None:
    if settings.key_file is None:
        return None
    place = settings.key_file.expanduser()
    passphrase = None if settings.key_passphrase is None else settings.key_passphrase.get_secret_value()
    try:
        beginning = place.read_bytes()[:64]
    except OSError as error:
        raise KeyUnusable(path=place, problem=error.strerror) from error
    if beginning.startswith(b"PuTTY-User-Key-File"):
        raise KeyUnusable(path=place, problem="it is PuTTY's; convert it: puttygen KEY -O private-openssh -o NEW")
    for kind in _KINDS:
        try:
            return kind.from_private_key_file(str(place), passphrase)
        except paramiko.PasswordRequiredException as error:
            problem = "it has a passphrase; set sftp_source.key_passphrase_file"
            raise KeyUnusable(path=place, problem=problem) from error
        except (paramiko.SSHException, ValueError, IndexError):
            continue
    problem = "it is none of RSA, ECDSA and Ed25519" + (", or its passphrase is another" if passphrase else "")
    raise KeyUnusable(path=place, problem=problem)
