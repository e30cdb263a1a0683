"""What each answer of an object store means for the object: try again, already there, never."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from pydantic import ValidationError

from headrace.errors import RefusedError, TransientError
from headrace.objects import errors
from headrace.objects.answers import failure
from headrace.objects.settings import BucketSettings
from headrace.objects.store import ObjectStore


def answer(status: int, code: str, operation: str = "PutObject") -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "secret"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        operation,
    )


@pytest.mark.parametrize(
    ("status", "code", "meaning"),
    [
        (412, "PreconditionFailed", errors.ObjectExists),
        (404, "NoSuchUpload", errors.UploadGone),
        (404, "404", errors.StoreUnwell),
        (404, "NoSuchKey", errors.StoreUnwell),
        (404, "XAdminUserNotFound", errors.StoreDenies),
        (409, "ObjectParentIsFile", errors.NameConflict),
        (409, "ExistingObjectIsDirectory", errors.NameConflict),
        (400, "KeyTooLongError", errors.NameTooLong),
        (400, "EntityTooLarge", errors.ObjectRefused),
        (409, "InvalidObjectState", errors.ObjectRefused),
        (409, "ConditionalRequestConflict", errors.StoreUnwell),
        (409, "OperationAborted", errors.StoreUnwell),
        (400, "RequestTimeout", errors.StoreUnwell),
        (400, "BadDigest", errors.StoreUnwell),
        (416, "InvalidRange", errors.StoreUnwell),
        (429, "TooManyRequests", errors.StoreUnwell),
        (500, "InternalError", errors.StoreUnwell),
        (503, "SlowDown", errors.StoreUnwell),
        (403, "AccessDenied", errors.StoreDenies),
        (403, "403", errors.StoreDenies),
        (400, "ExpiredToken", errors.StoreDenies),
        (301, "PermanentRedirect", errors.StoreDenies),
        (404, "NoSuchBucket", errors.BucketGone),
    ],
)
def test_an_answer_means(status, code, meaning):
    assert type(failure(answer(status, code), "http://store")) is meaning


@pytest.mark.parametrize(
    ("status", "code"),
    [(500, "InternalError"), (503, "SlowDown"), (403, "AccessDenied"), (404, "NoSuchBucket"), (400, "ExpiredToken")],
)
def test_the_state_of_a_store_is_never_held_against_an_object(status, code):
    assert isinstance(failure(answer(status, code), "x"), TransientError)


def test_only_what_is_read_can_be_missing():
    assert type(failure(answer(404, "404", "HeadObject"), "x")) is errors.ObjectMissing
    assert type(failure(answer(404, "NoSuchKey", "GetObject"), "x")) is errors.ObjectMissing
    assert type(failure(answer(404, "SomethingElse", "GetObject"), "x")) is errors.StoreUnwell


def test_a_store_that_cannot_be_reached_is_unwell():
    for error in (EndpointConnectionError(endpoint_url="x"), ReadTimeoutError(endpoint_url="x")):
        assert type(failure(error, "x")) is errors.StoreUnwell


def test_what_a_store_says_in_words_is_not_repeated():
    error = failure(answer(400, "Strange <code> with a name in it"), "http://store")
    assert isinstance(error, RefusedError)
    assert str(error) == "The object store at http://store refused the object: unnamed error, HTTP 400."


def test_an_endpoint_without_a_scheme_is_refused():
    with pytest.raises(errors.WrongEndpoint):
        ObjectStore(BucketSettings(endpoint="localhost:9000", bucket="bucket"))


@pytest.mark.parametrize("prefix", ["..", "a/../b", "a%2F", "a\tb"])
def test_a_prefix_that_is_no_plain_folder_is_refused(prefix):
    with pytest.raises(ValidationError):
        BucketSettings(bucket="bucket", prefix=prefix)


def test_a_prefix_is_made_whole_folders():
    assert BucketSettings(bucket="bucket", prefix="/a//b").prefix == "a/b/"
    assert BucketSettings(bucket="bucket").prefix == ""
