"""Names of jobs: given by the operator or made up, and safe to stand in keys, headers, file names and terminals."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime

from headrace.errors import ConfigError

_VALID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class WrongJobId(ConfigError):
    """{job!r} cannot be the id of a job. Use 1 to 100 letters, digits, ".", "_" or "-", a letter or digit first."""

    code = "wrong-job-id"


def check_job_id(job: str) -> str:
    """`job` itself.

    Raises WrongJobId if it is no id.
    """
    if not is_job_id(job):
        raise WrongJobId(job=job)
    return job


def is_job_id(job: str) -> bool:
    """Whether `job` can be the id of a job."""
    return _VALID.fullmatch(job) is not None


def new_job_id(kind: str) -> str:
    """An id that nobody has: `upload-20260501-1203-4f2a91`, in UTC."""
    return f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M}-{secrets.token_hex(3)}"
