"""The archiver keeps the contract of stages."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import pytest

from headrace.sandbox.s3 import S3Server
from headrace.stage.contract import Stage
from headrace.topics import CHUNKS
from headrace_files.archiver.service import Archiver
from headrace_files.archiver.settings import ArchiverSettings
from tests.contract.stage_contract import Fed, StageContract
from tests.support.feeding import FedFile, Feeder


@pytest.mark.s3
class TestArchiver(StageContract):
    @pytest.fixture(autouse=True)
    def _store(self, s3: S3Server, bucket: str) -> None:
        self._s3 = s3
        self._bucket = bucket

    def stage(self, place: Path) -> Stage:
        del place  # the bucket is the destination
        return Archiver(
            ArchiverSettings.model_validate(
                {
                    "endpoint": self._s3.endpoint,
                    "bucket": self._bucket,
                    "access_key": self._s3.access_key,
                    "secret_key": self._s3.secret_key,
                }
            )
        )

    def good(self, feeder: Feeder, number: int) -> Fed:
        file = FedFile(f"file-{number}".encode(), bytes([number % 251]) * 10_000, inode=number)
        partition = feeder.partition(file)
        values = [file.whole()] if number % 2 else file.frames()
        return Fed(file.item, [(CHUNKS, file.key, value, partition) for value in values])

    def effects(self, place: Path) -> Mapping[str, Hashable]:
        del place
        listed = self._s3.client().list_objects_v2(Bucket=self._bucket).get("Contents", [])
        return {entry["Key"]: entry["LastModified"] for entry in listed}
