"""What `headrace config check` looks at for this family. Nothing here changes anything at ART."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from headrace.checks import Check, attempt

if TYPE_CHECKING:
    from headrace_art.client.settings import ArtSettings


def art(settings: ArtSettings) -> Iterator[Check]:
    """The provider must give a token, and ART take it and know the state and the codes that are sent."""
    from headrace_art.client import ArtClient  # loads an HTTP client
    from headrace_art.codes import GRADES, LANGUAGES

    async def log_in() -> None:
        async with ArtClient(settings) as client:
            await client.log_in()

    async def look() -> tuple[bool, frozenset[str], frozenset[str]]:
        async with ArtClient(settings) as client:
            return await client.state_exists(), await client.languages(), await client.grades()

    token = attempt("token", lambda: asyncio.run(log_in()), f"{settings.token_url} gives a token")
    yield token
    if not token.well:
        return
    found: list[tuple[bool, frozenset[str], frozenset[str]]] = []
    yield attempt("ART", lambda: found.append(asyncio.run(look())), f"{settings.url} answers")
    for state, languages, grades in found:
        yield Check("state", state, f"{settings.state} {'exists' if state else 'does not exist; create it first'}")
        unknown = sorted((LANGUAGES - languages) | (set(GRADES) - grades))
        detail = "ART knows all that are checked for"
        yield Check("codes", not unknown, f"ART does not know {', '.join(unknown[:10])}" if unknown else detail)
