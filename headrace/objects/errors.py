"""What an object store can answer, sorted by what it means for the object: try again, already there, never.

An outage, refused credentials and a missing bucket are the store's state, not the object's: they are transient however
long they last, so that nothing is put aside because of them. Source: design section 4, "Outside systems".
"""

from __future__ import annotations

from headrace.errors import ConfigError, PermanentError, RefusedError, TransientError


class MissingBucket(ConfigError):
    """The bucket {bucket} does not exist at {endpoint}. Create it there, or let it be created with --create-bucket."""

    code = "missing-bucket"


class WrongEndpoint(ConfigError):
    """The endpoint {endpoint} is no address of an object store: it must begin with https:// or http://."""

    code = "wrong-endpoint"


class StoreUnwell(TransientError):
    """The object store at {endpoint} is unwell: {problem}; trying again in {retry_after} s."""

    code = "store-unwell"
    default_retry_after = 0.5


class StoreDenies(StoreUnwell):
    """The object store at {endpoint} denies access: {problem}; check key, rights and region; trying again."""

    code = "store-denies"
    default_retry_after = 5.0


class KeysChanged(StoreUnwell):
    """The object store at {endpoint} denies access: {problem}; our keys have changed since, trying again with them."""

    code = "keys-changed"
    default_retry_after = 0.1


class BucketGone(StoreUnwell):
    """The object store at {endpoint} has lost the bucket: {problem}; trying again in {retry_after} s."""

    code = "bucket-gone"
    default_retry_after = 5.0


class ObjectExists(RefusedError):
    """There is an object of that name already."""

    code = "object-exists"


class ObjectMissing(PermanentError):
    """There is no object of that name."""

    code = "object-missing"


class UploadGone(PermanentError):
    """The multipart upload is gone: somebody else completed or aborted it."""

    code = "upload-gone"


class NameConflict(RefusedError):
    """The object store at {endpoint} has an object where this one needs a folder, or the reverse: {problem}."""

    code = "name-conflict"


class NameTooLong(RefusedError):
    """The object store at {endpoint} refused the name as too long ({problem})."""

    code = "name-too-long"


class ObjectRefused(RefusedError):
    """The object store at {endpoint} refused the object: {problem}."""

    code = "object-refused"
