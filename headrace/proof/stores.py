"""Reading objects that receipts name: which store has the bucket, and the bytes of one object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock

from pydantic import BaseModel

from headrace.config import Sources
from headrace.errors import TransientError
from headrace.families import configured, stages
from headrace.objects.errors import ObjectMissing
from headrace.objects.settings import BucketSettings
from headrace.objects.store import Head, ObjectStore
from headrace.proof.destinations import Unreadable


def configured_buckets(sources: Sources) -> dict[str, BucketSettings]:
    """Every bucket that the settings of a service on this machine name, by its name."""
    found: dict[str, BucketSettings] = {}
    for _, values in configured(sources, stages().values()):
        found |= buckets_in(values)
    return found


def buckets_in(values: BaseModel) -> dict[str, BucketSettings]:
    """Every bucket that the settings of one service name, by its name."""
    found = {values.bucket: values} if isinstance(values, BucketSettings) else {}
    for name in type(values).model_fields:
        value = getattr(values, name)
        if isinstance(value, BaseModel):
            found |= buckets_in(value)
    return found


class StoreReader:
    """Reads objects by their `s3://bucket/key`; safe to use from several threads.

    Parameters:
        sources: settings that may name the buckets.
        endpoint: the store of buckets that they do not name; the keys come from the usual AWS environment.
        known: settings of some buckets, which go before all others.
    """

    def __init__(
        self, sources: Sources, endpoint: str | None, known: Mapping[str, BucketSettings] | None = None
    ) -> None:
        self._known = known or {}
        self._sources = sources
        self._endpoint = endpoint
        self._buckets: dict[str, BucketSettings] | None = None
        self._stores: dict[str, ObjectStore] = {}
        self._lock = Lock()

    def read(self, where: str) -> Iterator[bytes]:
        """The bytes of one object.

        Raises FileNotFoundError if it is gone, Unreadable if the store cannot be asked.
        """
        bucket, key = split_where(where)
        try:
            yield from self._store(where, bucket).read(key)
        except ObjectMissing as error:
            raise FileNotFoundError(where) from error
        except TransientError as error:
            raise Unreadable(where=where, problem=error.details.get("problem", error)) from error

    def head(self, where: str) -> Head | None:
        """What the store says of one object without sending it, None if it is gone.

        Raises Unreadable if the store cannot be asked.
        """
        bucket, key = split_where(where)
        try:
            return self._store(where, bucket).head(key)
        except TransientError as error:
            raise Unreadable(where=where, problem=error.details.get("problem", error)) from error

    def _store(self, where: str, bucket: str) -> ObjectStore:
        with self._lock:
            if bucket not in self._stores:
                settings = self._known.get(bucket) or self._configured().get(bucket)
                if settings is None and self._endpoint is None:
                    raise Unreadable(where=where, problem="no settings here name its store; give --endpoint")
                self._stores[bucket] = ObjectStore(
                    settings or BucketSettings(endpoint=self._endpoint, bucket=bucket), connections=4
                )
            return self._stores[bucket]

    def _configured(self) -> Mapping[str, BucketSettings]:
        if self._buckets is None:
            self._buckets = configured_buckets(self._sources)
        return self._buckets


def split_where(where: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; the key stands as it is, without percent-encoding."""
    bucket, _, key = where.removeprefix("s3://").partition("/")
    return bucket, key
