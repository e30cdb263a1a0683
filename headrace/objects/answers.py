"""What an error answer of an S3 store means: its status and code turned into one of our errors."""

from __future__ import annotations

import re
from typing import ClassVar

from botocore.exceptions import BotoCoreError, ClientError

from headrace.errors import HeadraceError
from headrace.objects.errors import (
    BucketGone,
    NameConflict,
    NameTooLong,
    ObjectExists,
    ObjectMissing,
    ObjectRefused,
    StoreDenies,
    StoreUnwell,
    UploadGone,
)

# Source: Amazon S3 API reference, "Error responses"; measured on versitygw 1.x.
_DENIED = frozenset({
    "AccessDenied", "AuthorizationHeaderMalformed", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
    "PermanentRedirect", "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired",
    # 404, to whatever was asked: measured on versitygw 1.8.0 with a key that it does not know.
    "XAdminUserNotFound",
})  # fmt: skip
_MISSING = frozenset({"404", "NoSuchKey", "NoSuchVersion", "NotFound"})
_READING = frozenset({"GetObject", "HeadObject"})
_PASSING = frozenset({
    "BadDigest", "ConditionalRequestConflict", "IncompleteBody", "OperationAborted", "RequestTimeout", "SlowDown",
    "Throttling", "ThrottlingException", "TooManyRequests", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch",
})  # fmt: skip
_CONFLICTS = frozenset({"ExistingObjectIsDirectory", "ExistingObjectIsObject", "ObjectParentIsFile"})
_TOO_LONG = frozenset({"KeyTooLong", "KeyTooLongError"})

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")


class _Answer:
    """Status and code of an error answer; the code is from the network, so only a plain word is kept."""

    def __init__(self, error: ClientError) -> None:
        self.status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        code = str(error.response.get("Error", {}).get("Code", ""))
        self.code = code if _CODE.fullmatch(code) else "unnamed error"

    # 416: an empty object has no first byte. Only one that was said to be missing is asked for it, so it is new.
    _unwell_statuses: ClassVar[frozenset[int]] = frozenset({0, 408, 416, 425, 429})

    def unwell(self) -> bool:
        return self.code in _PASSING or self.status in self._unwell_statuses or self.status >= 500


def failure(error: ClientError | BotoCoreError, endpoint: str) -> HeadraceError:
    """The error of ours that says what the store's answer means."""
    if not isinstance(error, ClientError):
        return StoreUnwell(endpoint=endpoint, problem=type(error).__name__)
    answer = _Answer(error)
    problem = f"{answer.code}, HTTP {answer.status}"
    if answer.code == "NoSuchUpload":
        return UploadGone()
    if answer.status == 412:
        return ObjectExists()
    if answer.code == "NoSuchBucket":
        return BucketGone(endpoint=endpoint, problem=problem)
    if answer.code in _DENIED or answer.status in (301, 307, 401, 403):
        return StoreDenies(endpoint=endpoint, problem=problem)
    if answer.unwell():
        return StoreUnwell(endpoint=endpoint, problem=problem)
    if answer.code in _CONFLICTS:
        return NameConflict(endpoint=endpoint, problem=problem)
    if answer.code in _TOO_LONG:
        return NameTooLong(endpoint=endpoint, problem=problem)
    if answer.status == 404:
        if answer.code in _MISSING and error.operation_name in _READING:
            return ObjectMissing()
        # Nothing else that is asked for can lack an object.
        return StoreUnwell(endpoint=endpoint, problem=problem)
    return ObjectRefused(endpoint=endpoint, problem=problem)
