"""One bucket, as the rest of Headrace sees it: new objects, uploads in parts, reading back.

Every method is one try: it raises a TransientError where the store is unwell, and the caller decides on patience.
All methods may be called from several threads.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Lock
from typing import IO, TYPE_CHECKING, NamedTuple

import obstore
import structlog
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from headrace.errors import ConfigError, HeadraceError, RefusedError
from headrace.objects.errors import (
    BucketGone,
    KeysChanged,
    MissingBucket,
    ObjectExists,
    ObjectMissing,
    StoreDenies,
    StoreUnwell,
    UploadGone,
    WrongEndpoint,
)
from headrace.objects.settings import BucketSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef
    from obstore.store import S3Config

log = structlog.get_logger(__name__)

CONNECT_SECONDS = 5
ANSWER_SECONDS = 60
READ_BYTES = 4 * 1024 * 1024
SMALLEST_PART = 5 * 1024 * 1024
MOST_PARTS = 10_000
AMAZON = "Amazon S3"

Body = bytes | bytearray | memoryview


class Stored(NamedTuple):
    """What the store says of an object it took: `etag` without quotes, `version` where the bucket keeps versions."""

    etag: str
    version: str | None


@dataclass(frozen=True, slots=True)
class Head:
    """What the store says of an object: `size` in bytes, `metadata` by lower-case names."""

    size: int
    stored: Stored
    metadata: Mapping[str, str]


class Multipart(NamedTuple):
    """An upload in parts that was begun and neither completed nor aborted."""

    key: str
    upload: str
    begun: datetime


class ObjectStore:
    """A bucket of an S3 object store.

    Parameters:
        connections: how many requests may be under way at once.
        again: reads the settings again; asked for new keys when the store denies access.

    Raises WrongEndpoint if the endpoint is no http or https address. Nothing is sent yet.
    """

    def __init__(
        self, settings: BucketSettings, *, connections: int = 16, again: Callable[[], BucketSettings] | None = None
    ) -> None:
        self.endpoint = settings.endpoint or AMAZON
        if settings.endpoint is not None and not settings.endpoint.startswith(("https://", "http://")):
            raise WrongEndpoint(endpoint=settings.endpoint)
        self.bucket = settings.bucket
        self._settings = settings
        self._connections = connections
        self._creating = Lock()
        self._again = again
        self._data = self._new_data()

    def where(self, key: str) -> str:
        """The address of an object, as receipts name it."""
        return f"s3://{self.bucket}/{key}"

    def connect(self) -> None:
        """Get the slower of the two clients ready, which takes half a second of work; any first use does it, too."""
        with self._creating:
            _ = self._client

    def check(self, *, create: bool = False) -> None:
        """See that the bucket is there.

        Parameters:
            create: make it, if it is not.

        Raises MissingBucket, StoreDenies, StoreUnwell.
        """
        try:
            next(iter(obstore.list(self._data, prefix=".headrace-check", chunk_size=1)), None)
            return
        except (BaseError, OSError):
            pass
        try:
            with self._sorted():
                # Not a HEAD request, whose answer cannot tell an unknown bucket from an unknown key of ours.
                self._boto().list_objects_v2(Bucket=self.bucket, Prefix=".headrace-check", MaxKeys=1)
        except BucketGone as error:
            if not create:
                raise MissingBucket(bucket=self.bucket, endpoint=self.endpoint) from error
            with self._sorted():
                self._boto().create_bucket(Bucket=self.bucket)

    def put_new(self, key: str, body: Body, metadata: Mapping[str, str]) -> Stored:
        """Store an object under a name that is free.

        Raises ObjectExists if it is not, RefusedError, StoreUnwell.
        """
        try:
            # obstore takes a third of boto3's processor time and tells errors apart by text alone, so on any error
            # boto3 is asked the same, and its answer counts.
            result = obstore.put(self._data, key, body, mode="create", attributes=dict(metadata), use_multipart=False)
            return Stored((result["e_tag"] or "").strip('"'), result["version"])
        except AlreadyExistsError as error:
            if "412 Precondition" in str(error):
                raise ObjectExists from error
        except (BaseError, OSError, ValueError):
            pass
        with self._sorted():
            answer = self._boto().put_object(
                Bucket=self.bucket, Key=key, Body=bytes(body), Metadata=dict(metadata), IfNoneMatch="*"
            )
        return Stored(answer["ETag"].strip('"'), answer.get("VersionId"))

    def head(self, key: str) -> Head | None:
        """What is known of an object, None if there is none."""
        try:
            with self._sorted():
                answer = self._boto().head_object(Bucket=self.bucket, Key=key)
        except ObjectMissing:
            self._confirm_missing(key)
            return None
        metadata = {name.lower(): value for name, value in answer["Metadata"].items()}
        return Head(answer["ContentLength"], Stored(answer["ETag"].strip('"'), answer.get("VersionId")), metadata)

    def _confirm_missing(self, key: str) -> None:
        """Ask again in a way that is answered in words: a store that does not know our key may say "not found", too.

        Raises StoreUnwell if the object is not missing for sure.
        """
        try:
            with self._sorted():
                self._boto().get_object(Bucket=self.bucket, Key=key, Range="bytes=0-0")["Body"].close()
        except ObjectMissing:
            return
        raise StoreUnwell(endpoint=self.endpoint, problem="it says of one object that it is there, and that it is not")

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of an object, a few megabytes at a time.

        Raises ObjectMissing, StoreUnwell.
        """
        try:
            for piece in obstore.get(self._data, key).stream(min_chunk_size=READ_BYTES):
                yield bytes(piece)
        except FileNotFoundError as error:
            self._confirm_missing(key)
            raise ObjectMissing from error
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise self._denied(StoreDenies(endpoint=self.endpoint, problem=type(error).__name__)) from error
        except (BaseError, OSError) as error:
            raise StoreUnwell(endpoint=self.endpoint, problem=type(error).__name__) from error

    def create(self, key: str, metadata: Mapping[str, str]) -> str:
        """Begin an upload in parts; returns its id."""
        with self._sorted():
            answer = self._boto().create_multipart_upload(Bucket=self.bucket, Key=key, Metadata=dict(metadata))
        return answer["UploadId"]

    def upload_part(self, key: str, upload: str, number: int, body: bytes | IO[bytes]) -> str:
        """Send part `number` (from 1) of at least 5 MiB, except the last; returns its etag, as `complete` wants it."""
        with self._sorted():
            answer = self._boto().upload_part(
                Bucket=self.bucket, Key=key, UploadId=upload, PartNumber=number, Body=body
            )
        return answer["ETag"]

    def complete(self, key: str, upload: str, etags: Sequence[str]) -> Stored:
        """Make the object of its parts, whose etags stand in order, if the name is free.

        Raises ObjectExists if it is not, UploadGone, RefusedError, StoreUnwell.
        """
        parts: list[CompletedPartTypeDef] = [
            {"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)
        ]
        with self._sorted():
            answer = self._boto().complete_multipart_upload(
                Bucket=self.bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": parts}, IfNoneMatch="*"
            )
        return Stored(answer["ETag"].strip('"'), answer.get("VersionId"))

    def abort(self, key: str, upload: str) -> None:
        """Give up an upload in parts; one that is gone already is no error."""
        with contextlib.suppress(UploadGone), self._sorted():
            self._boto().abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)

    def list_multiparts(self, prefix: str = "") -> list[Multipart]:
        """All unfinished uploads to keys that begin with `prefix`."""
        with self._sorted():
            pages = self._boto().get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=prefix)
            return [
                Multipart(each["Key"], each["UploadId"], each["Initiated"])
                for page in pages
                for each in page.get("Uploads", ())
            ]

    def refusal(self, key: str) -> RefusedError | None:
        """Ask why an object cannot have this name, where the store hid the reason behind an internal error.

        Only where there is something under the name as a folder, an object is sent that no store should accept, since
        its digest is wrong: a store that checks names first says what it has against the name. Measured on versitygw
        with its posix backend: 500 to the completion of an upload whose name is a folder, 409
        ExistingObjectIsDirectory to this.
        """
        wrong = base64.b64encode(bytes(16)).decode()
        try:
            with self._sorted():
                below = self._boto().list_objects_v2(Bucket=self.bucket, Prefix=f"{key}/", MaxKeys=1)
                if not below.get("KeyCount"):
                    return None
                self._boto().put_object(Bucket=self.bucket, Key=key, Body=b"-", ContentMD5=wrong, IfNoneMatch="*")
                # It did not look at the digest, so the name was free, and is to be so again.
                self._boto().delete_object(Bucket=self.bucket, Key=key)
        except ObjectExists:
            return None
        except RefusedError as error:
            return error
        except HeadraceError:
            return None
        return None

    def _boto(self) -> S3Client:
        if "_client" in self.__dict__:
            return self._client
        with self._creating:
            return self._client

    def _denied(self, error: StoreDenies) -> StoreUnwell:
        """Keys may be changed while a service runs: if they were, the next try is with the new ones."""
        if self._again is None:
            return error
        with self._creating:
            try:
                found = self._again()
            except ConfigError as wrong:
                # They may be in the middle of being changed.
                log.warning("the keys of the object store cannot be read again", problem=str(wrong))
                return error
            keys = {"access_key": found.access_key, "secret_key": found.secret_key}
            if None in keys.values() or all(getattr(self._settings, name) == key for name, key in keys.items()):
                return error
            self._settings = self._settings.model_copy(update=keys)
            self._data = self._new_data()
            self.__dict__.pop("_client", None)
        log.info("the keys of the object store have changed", endpoint=self.endpoint, bucket=self.bucket)
        return KeysChanged(**error.details)

    def _new_data(self) -> S3Store:
        settings = self._settings
        # What is not given, obstore takes from the AWS environment.
        given: S3Config = {"region": settings.region}
        if settings.endpoint is not None:
            given["endpoint"] = settings.endpoint
        if settings.access_key is not None:
            given["access_key_id"] = settings.access_key.get_secret_value()
        if settings.secret_key is not None:
            given["secret_access_key"] = settings.secret_key.get_secret_value()
        return S3Store(
            settings.bucket,
            config=given,
            client_options={
                "allow_http": self.endpoint.startswith("http://"),
                "connect_timeout": f"{CONNECT_SECONDS}s",
                "timeout": f"{ANSWER_SECONDS}s",
            },
            retry_config={"max_retries": 0},
        )

    @cached_property
    def _client(self) -> S3Client:
        # botocore takes 0.4 s to import; the first small objects need it not.
        import boto3
        from botocore.config import Config

        secret = self._settings.secret_key
        access = self._settings.access_key
        session = boto3.session.Session(
            aws_access_key_id=access.get_secret_value() if access else None,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            region_name=self._settings.region,
        )
        return session.client(
            "s3",
            endpoint_url=self._settings.endpoint,
            config=Config(
                connect_timeout=CONNECT_SECONDS,
                read_timeout=ANSWER_SECONDS,
                retries={"total_max_attempts": 1},
                max_pool_connections=self._connections,
                # Every part bears a CRC-32 that the store checks; hashing its bytes once more for the signature would
                # only cost time.
                s3={
                    "addressing_style": "path" if self._settings.endpoint else "auto",
                    "payload_signing_enabled": False,
                },
            ),
        )

    @contextlib.contextmanager
    def _sorted(self) -> Iterator[None]:
        """Turns what boto3 raises into errors of ours."""
        from botocore.exceptions import BotoCoreError, ClientError

        from headrace.objects.answers import failure

        try:
            yield
        except (ClientError, BotoCoreError) as error:
            found = failure(error, self.endpoint)
            raise (self._denied(found) if isinstance(found, StoreDenies) else found) from error
