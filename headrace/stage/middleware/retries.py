"""How long to wait before an unwell outside is tried again: what it asks for, doubled each time, with jitter."""

from __future__ import annotations

import random

from headrace.errors import TransientError

LONGEST_WAIT = 20.0


def delay(error: TransientError, attempt: int) -> float:
    """Seconds to wait before the next try, `attempt` tries (from 1) having failed.

    `retry_after`, doubled each time up to 20 s (never less than asked for), give or take a fifth. A `steady` error,
    such as a full buffer that drains, is not slowed down.
    """
    base = error.retry_after
    if not error.steady:
        base = min(base * 2 ** min(attempt - 1, 20), max(LONGEST_WAIT, base))
    return base * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
