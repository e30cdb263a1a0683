"""What can go wrong between us and ART. Source: reference art 3.2, 3.8, 3.9.

HeadraceError
├── TransientError
│   ├── ArtUnreachable        nothing was sent
│   ├── AnswerLost            it was sent, and what became of it is unknown
│   ├── ArtUnwell             5xx from the container or the proxy
│   ├── ArtFault              400 with an error number: anything unexpected inside ART
│   ├── AnswerMalformed       not what the endpoint answers
│   ├── LocationMissing       a batch was taken, and cannot be followed
│   ├── TokenNotTaken         a new token is refused as well
│   └── ProviderUnwell        the token provider
├── ConfigError
│   ├── CredentialsRefused    no token for these
│   ├── PermissionMissing     a token, but not for this
│   ├── HttpsRequired
│   └── CertificateRefused
└── RefusedError
    ├── FieldsRefused         rules of fields
    ├── ArrayRefused          one element spoils all: find it by bisecting
    ├── BodyTooLarge          send less at once
    └── RequestRefused        anything else

No message holds a token, a body, or a value that ART answered.
"""

from __future__ import annotations

from headrace.errors import ConfigError, RefusedError, TransientError


class ArtUnreachable(TransientError):
    """ART at {address} cannot be reached: {problem}; nothing was sent, trying again in {retry_after:g} s."""

    code = "art-unreachable"


class AnswerLost(TransientError):
    """The answer of {address} did not arrive: {problem}. Whether it was acted on is unknown; it is safe to repeat."""

    code = "art-answer-lost"


class ArtUnwell(TransientError):
    """ART answers {status} to {endpoint}; trying again in {retry_after:g} s."""

    code = "art-unwell"


class ArtFault(TransientError):
    """ART had a fault of its own at {endpoint} (number {number} in its log); trying again in {retry_after:g} s."""

    code = "art-fault"


class AnswerMalformed(TransientError):
    """ART's answer to {endpoint} (status {status}) is not what that endpoint answers: {problem}."""

    code = "art-answer-malformed"


class LocationMissing(TransientError):
    """ART took a batch without saying where its status is; its students are sent again."""

    code = "art-location-missing"


class TokenNotTaken(TransientError):
    """ART does not take the token for {endpoint}, not even a new one. See whether it reaches its token provider."""

    code = "art-token-not-taken"
    default_retry_after = 5.0


class ProviderUnwell(TransientError):
    """The token provider {address} gives no token: {problem}; trying again in {retry_after:g} s."""

    code = "token-provider-unwell"


class CredentialsRefused(ConfigError):
    """The token provider {address} refuses the credentials ({error}). Check user, client and secrets under [art]."""

    code = "art-credentials-refused"


class PermissionMissing(ConfigError):
    """ART does not permit {endpoint} to this user. It needs the permissions {permissions}; ask ART's administrator."""

    code = "art-permission-missing"


class HttpsRequired(ConfigError):
    """ART forbids {endpoint} over plain HTTP. Set art.url to an https:// address, or let the proxy pass the scheme."""

    code = "art-https-required"


class CertificateRefused(ConfigError):
    """The certificate of {address} is not trusted: {problem}. Set art.ca_file to the authority that signed it."""

    code = "art-certificate-refused"


class FieldsRefused(RefusedError):
    """ART refuses the fields {fields} at {endpoint}."""

    code = "art-fields-refused"

    @property
    def fields(self) -> tuple[str, ...]:
        """The keys that ART complains of: JSON properties, or labels of business rules."""
        found = self.details["fields"]
        return tuple(found) if isinstance(found, tuple) else ()


class ArrayRefused(RefusedError):
    """ART refuses all that was sent to {endpoint}, since an element has a wrong type or a bad date."""

    code = "art-array-refused"


class BodyTooLarge(RefusedError):
    """What was sent to {endpoint} is too large for the proxy in front of ART; less is sent at once."""

    code = "art-body-too-large"


class RequestRefused(RefusedError):
    """ART refuses {endpoint} with status {status}."""

    code = "art-request-refused"
