"""Where an object store is, and who we are there."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from headrace.config import Section


class BucketSettings(Section):
    """One bucket of an S3 object store; a part of the settings of the service that uses it."""

    endpoint: str | None = Field(
        None, description="Address of the S3 service, https:// or http://; without it Amazon's own."
    )
    region: str = Field("us-east-1", description="Region of the bucket.")
    bucket: str = Field(description="Bucket that holds the objects.", min_length=3, max_length=63)
    prefix: str = Field("", description='Begins the name of every object, such as "raw/2026".', max_length=512)
    access_key: SecretStr | None = Field(
        None, description="Access key id; without it the usual AWS environment is used (AWS_ACCESS_KEY_ID, roles)."
    )
    secret_key: SecretStr | None = Field(None, description="Secret access key.")

    @field_validator("prefix")
    @classmethod
    def _whole_folders(cls, prefix: str) -> str:
        parts = [part for part in prefix.split("/") if part]
        if any(part in (".", "..") for part in parts) or not prefix.isprintable() or "%" in prefix:
            raise ValueError('parts of a prefix are plain names, without ".", "..", "%" and control characters')
        return "".join(f"{part}/" for part in parts)
