"""How the server that can misbehave does so. Source: reference art 5.6."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from headrace.config import Section


class SftpSandboxSettings(Section):
    """What is wrong with the server; by default nothing. All may change while it runs."""

    cut_at: int | None = Field(None, description="Hang up when this byte of a file is read.", ge=0)
    cuts: int = Field(1, description="How often it does so.", ge=0)
    pause_ms: float = Field(0, description="Each read is answered this much later, in milliseconds.", ge=0)
    most_at_once: int | None = Field(None, description="Bytes given for a read at most.", ge=1)
    most_outstanding: int | None = Field(None, description="Reads under way; one more is refused.", ge=1)
    sequential: bool = Field(
        False, description="Refuse a read that does not begin where the last one of that file ended."
    )
    larger_by: int = Field(0, description="Bytes that are added to the size of every file.", ge=0)
    host_key: Literal[1, 2] = Field(1, description="Which of its two host keys new connections are shown.")
