"""What can go wrong with an sFTP server and what lies there."""

from __future__ import annotations

from headrace.errors import ConfigError, PermanentError, TransientError


class HostKeyUnknown(ConfigError):
    """{host} is unknown here; its key is {kind} {fingerprint}. Once you trust it: --fingerprint, or {known_hosts}."""

    code = "host-key-unknown"


class HostKeyRefused(ConfigError):
    """{host} showed the key {kind} {fingerprint}, expected is {expected}. Ask its operator before you trust it."""

    code = "host-key-refused"


class LoginRefused(ConfigError):
    """{host} does not let the user {user} in with {what}: {problem}. Check the sftp_source settings of user and key."""

    code = "login-refused"


class KeyUnusable(ConfigError):
    """The private key {path} cannot be used: {problem}."""

    code = "key-unusable"


class NoCredentials(ConfigError):
    """There is neither a password nor a private key for {user} at {host}. Set sftp_source.password_file or key_file."""

    code = "no-credentials"


class NothingToFetch(ConfigError):
    """No file to fetch from {host} is named. Name it as an argument, or set paths under [sftp_source]."""

    code = "nothing-to-fetch"


class NoCommonCipher(ConfigError):
    """{host} and this side agree on no cipher or key exchange: {problem}. See the setting sftp_source.ciphers."""

    code = "no-common-cipher"


class ServerUnreachable(TransientError):
    """The sFTP server {host} does not answer: {problem}; trying again in {retry_after} s."""

    code = "server-unreachable"
    default_retry_after = 2.0


class ConnectionLost(TransientError):
    """The connection to {host} was lost: {problem}; trying again in {retry_after} s."""

    code = "connection-lost"
    default_retry_after = 1.0


class RemoteChanged(TransientError):
    """{path} changed while it was fetched: {problem}; it is fetched anew in {retry_after} s."""

    code = "remote-changed"
    default_retry_after = 1.0


class SpoolFull(TransientError):
    """The folder {folder} does not take the file: {problem}; trying again in {retry_after} s."""

    code = "spool-full"
    default_retry_after = 10.0


class RemoteMissing(PermanentError):
    """{path} is not on the server."""

    code = "remote-missing"


class RemoteRefused(PermanentError):
    """The server does not give {path}: {problem}."""

    code = "remote-refused"


class RemoteEmpty(PermanentError):
    """{path} is empty on the server; nothing was sent."""

    code = "remote-empty"


class NotAFile(PermanentError):
    """{path} is no regular file on the server."""

    code = "not-a-file"
