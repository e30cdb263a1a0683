"""Where ART is, and how it is spoken to."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import AnyHttpUrl, Field, SecretStr, TypeAdapter, field_validator

from headrace.config import Duration, Size
from headrace_art.mapping.student import MappingSettings

_URL = TypeAdapter(AnyHttpUrl)


class ArtSettings(MappingSettings):
    """The registration system, its token provider, and what is made of a row."""

    url: str = Field(
        "https://localhost:8443/rest", description="Base of ART's REST API.", pattern=r"^https?://[^\s/?#][^\s?#]*$"
    )
    token_url: str = Field(
        "https://localhost/auth/oauth2/access_token?realm=/sbac",
        description="Where the token provider (OpenAM, Okta) gives tokens.",
        pattern=r"^https?://[^\s/?#][^\s#]*$",
    )
    username: str = Field(description="User that ART knows.")
    password: SecretStr = Field(description="The user's password.")
    client_id: str = Field(description="OAuth client.")
    client_secret: SecretStr = Field(description="The OAuth client's secret.")
    scope: str | None = Field(None, description='OAuth scope, which Okta asks for: "openid profile".')
    ca_file: Path | None = Field(None, description="PEM file of the authority that signed the certificates.")
    tls_check: bool = Field(True, description="Check certificates, of ART and of the token provider. Leave it on.")
    connections: int = Field(16, description="Connections to ART that are kept open, and requests at once.", ge=1)
    connect_timeout: Duration = Field(timedelta(seconds=10), description="Longest wait for a connection.")
    timeout: Duration = Field(timedelta(seconds=60), description="Longest wait for an answer.")
    batch_timeout: Duration = Field(
        timedelta(minutes=10), description="Longest wait for the answer to a batch, which hangs while a queue is full."
    )
    batch_students: int = Field(10_000, description="Students in a batch, at most.", ge=1, le=100_000)
    body_limit: Size = Field(
        16 * 1024 * 1024, description="Largest body of a batch, such as the proxy in front of ART allows.", ge=10_000
    )

    @field_validator("url", "token_url")
    @classmethod
    def _as_sent(cls, url: str) -> str:
        """As it goes over the wire: ASCII, with the path that an address without one means."""
        found = str(_URL.validate_python(url))
        try:
            (urlsplit(found).hostname or "").encode("idna")
        except UnicodeError:
            raise ValueError("the host's name has an empty part, or one of more than 63 characters") from None
        return found

    @field_validator("url")
    @classmethod
    def _bare(cls, url: str) -> str:
        return url.rstrip("/")

    @property
    def mapping(self) -> MappingSettings:
        """What decides what is made of a row; the rest does not."""
        return MappingSettings(state=self.state, grades=self.grades, district_rule=self.district_rule)
