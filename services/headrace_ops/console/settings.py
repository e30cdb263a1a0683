"""The section `[console]`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, SecretStr, field_validator

from headrace.config import Duration, ServiceSettings

SHORTEST_TOKEN = 16


class ConsoleSettings(ServiceSettings):
    """Where the console listens, who may look, and how much it remembers."""

    host: str = Field("127.0.0.1", description="Address to listen on; by default only this machine can look.")
    port: int = Field(8787, description="Port to listen on; 0 takes a free one.", ge=0, le=65535)
    names: list[str] = Field(
        [], description="Names by which browsers may call it, beside localhost and `host`: console.example.org."
    )
    https: bool = Field(
        False,
        description="Whether browsers reach it by https, through a proxy before it; cookies then travel no other way.",
    )
    token: SecretStr | None = Field(
        None, description="What to log in with; by default a new one is made and printed at each start."
    )
    session: Duration = Field(
        timedelta(hours=12), description="How long a login lasts.", ge=timedelta(minutes=1), le=timedelta(days=30)
    )
    refresh: Duration = Field(
        timedelta(seconds=2),
        description="Time between two looks at positions and ends.",
        ge=timedelta(milliseconds=200),
        le=timedelta(minutes=1),
    )
    remember_files: int = Field(
        50_000, description="Versions of files to remember, the newest; about 1.5 kB each.", ge=100, le=1_000_000
    )
    remember_dead_letters: int = Field(
        20_000, description="Open dead letters to remember, the newest; about 1 kB each.", ge=100, le=1_000_000
    )

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < SHORTEST_TOKEN:
            raise ValueError(f"it must have at least {SHORTEST_TOKEN} characters")
        return token
