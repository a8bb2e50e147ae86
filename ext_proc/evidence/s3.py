"""The evidence in S3, to read. Beside `audit.s3` and the canary the only file of the gateway that speaks to AWS."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ext_proc import aws
from ext_proc.evidence.versions import Absent, Bucket, EvidenceError, Lock, Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CHUNK_BYTES: Final = 1 << 20
READ_SECONDS: Final = 60
"""Until something of an answer comes, and for each piece of it: see `ext_proc.pace`."""
_RETRIES: Final[Any] = {"total_max_attempts": 5, "mode": "standard"}
_TRIES: Final = 3
_NO_ANSWER: Final = (BotoCoreError, ResponseParserError, RecursionError, ValueError, KeyError)
"""Nothing came, or something that is not S3's: a proxy's page, a redirect (botocore asks about one without end), a
number or a time that is none, a part that is missing."""
_UNLOCKED: Final = ("ObjectLockConfigurationNotFoundError", "NotImplemented", "InvalidRequest")
_ABSENT: Final = ("NoSuchKey", "NoSuchVersion", "404", "NotFound")
_HELP: Final = (
    "Reading needs s3:ListBucketVersions, s3:GetObjectVersion, s3:GetObjectRetention, s3:GetObjectLegalHold, "
    "s3:GetBucketVersioning and s3:GetBucketObjectLockConfiguration; credentials, region and endpoint come from the "
    "configuration, or from the usual AWS variables and profiles (AWS_PROFILE, AWS_REGION, AWS_ENDPOINT_URL)"
)


class _Cut(Exception):
    """An object came with another length than it is listed with."""


class S3Versions:
    """`VersionedStore` in a bucket, below a prefix.

    Args:
        bucket: its name.
        prefix: put before every key; empty or ending in a slash.
        region: the bucket's; None: as the AWS libraries find it.
        endpoint: another server than AWS; None: as the AWS libraries find it.
        credentials_file: AWS credentials file with a ``[default]`` section; None: the usual chain.

    Raises:
        EvidenceError: region, endpoint or credentials cannot be used.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        region: str | None = None,
        endpoint: str | None = None,
        credentials_file: Path | None = None,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._client = self._connected(region, endpoint, credentials_file)

    @classmethod
    def of_url(cls, url: str) -> S3Versions:
        """From ``s3://bucket/prefix``.

        Raises:
            EvidenceError: it names no bucket.
        """
        scheme, _, rest = url.partition("://")
        bucket, _, prefix = rest.partition("/")
        if scheme != "s3" or not bucket:
            raise EvidenceError(f"{url}: name a bucket, such as s3://evidence/prefix, or the directory of an export")
        return cls(bucket, prefix.strip("/") + "/" if prefix.strip("/") else "")

    @property
    def name(self) -> str:
        """See `VersionedStore.name`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def bucket(self) -> Bucket:
        """See `VersionedStore.bucket`."""
        try:
            told = self._client.get_bucket_versioning(Bucket=self._bucket)
            lock = self._lock_rule()
            date = told["ResponseMetadata"]["HTTPHeaders"].get("date")
            at = parsedate_to_datetime(date).astimezone(UTC) if date else None
        except (ClientError, *_NO_ANSWER) as error:
            raise self._failed(error) from None
        if at is None:
            raise EvidenceError(f"{self.name}: the store does not say what time it is (no Date header)")
        rule = lock.get("Rule", {}).get("DefaultRetention", {})
        days = rule.get("Days", rule["Years"] * 365 if "Years" in rule else None)
        return Bucket(
            name=self._bucket,
            prefix=self._prefix,
            versioning=str(told.get("Status", "Disabled")),
            is_lockable=lock.get("ObjectLockEnabled") == "Enabled",
            lock_mode=rule.get("Mode"),
            lock_days=days,
            at=at,
        )

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """See `VersionedStore.versions`. A key's versions may stand on two pages, so the last key of a page waits."""
        where = {"Bucket": self._bucket, "Prefix": self._prefix + prefix}
        if after:
            where["KeyMarker"] = self._prefix + after
        waiting: list[Version] = []
        try:
            for page in self._pages(where):
                found = [self._version(item, is_marker=False) for item in page.get("Versions", ())]
                found += [self._version(item, is_marker=True) for item in page.get("DeleteMarkers", ())]
                waiting += [one for one in found if one.key > after]
                last = max((one.key for one in waiting), default="")
                yield from _ordered([one for one in waiting if one.key != last])
                waiting = [one for one in waiting if one.key == last]
        except (ClientError, *_NO_ANSWER) as error:
            raise self._failed(error) from None
        yield from _ordered(waiting)

    def download(self, version: Version, into: BinaryIO) -> Lock:
        """See `VersionedStore.download`."""
        where = {"Bucket": self._bucket, "Key": self._prefix + version.key, "VersionId": version.version}
        left = _TRIES
        while True:
            left -= 1
            try:
                told = self._client.get_object(**where)
                got = 0
                for chunk in told["Body"].iter_chunks(CHUNK_BYTES):
                    got += into.write(chunk)
                if got != version.size_bytes:  # somebody between the store and us cut it short, or said it instead
                    raise _Cut(f"{got} bytes came, {version.size_bytes} are listed")
            except ClientError as error:
                if _code(error) in _ABSENT:
                    raise Absent(f"{self.name}/{version.key} was listed, and is not there any more") from None
                raise self._failed(error, version.key) from None
            except (_Cut, *_NO_ANSWER) as error:
                if not left:
                    raise self._failed(error, version.key) from None
                into.seek(0)
                into.truncate()
            else:
                until = told.get("ObjectLockRetainUntilDate")
                is_held = told.get("ObjectLockLegalHoldStatus") == "ON"
                return Lock(told.get("ObjectLockMode"), until.astimezone(UTC) if until else None, is_held)

    def _pages(self, where: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Only pages of a listing: anybody's XML reads like one of a bucket where nothing is. And none twice, for
        ever.
        """
        seen: set[tuple[object, object]] = set()
        for page in self._client.get_paginator("list_object_versions").paginate(**where):
            at = (page.get("NextKeyMarker"), page.get("NextVersionIdMarker"))
            if "IsTruncated" not in page or at in seen:
                raise EvidenceError(f"{self.name} cannot be read: what came is not a listing, or begins again")
            seen.add(at)
            yield page

    def _lock_rule(self) -> dict[str, Any]:
        try:
            told: dict[str, Any] = self._client.get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if _code(error) in _UNLOCKED:
                return {}
            raise
        return dict(told.get("ObjectLockConfiguration", {}))

    def _version(self, item: dict[str, Any], *, is_marker: bool) -> Version:
        return Version(
            key=item["Key"][len(self._prefix) :],
            version=str(item["VersionId"]),
            is_latest=bool(item.get("IsLatest")),
            is_delete_marker=is_marker,
            size_bytes=int(item.get("Size", 0)),
            last_modified=item["LastModified"].astimezone(UTC),
        )

    def _connected(self, region: str | None, endpoint: str | None, credentials_file: Path | None) -> Any:
        config = Config(connect_timeout=10, read_timeout=READ_SECONDS, retries=_RETRIES, max_pool_connections=32)
        try:
            session = aws.session(credentials_file)
            where: dict[str, Any] = {
                "region_name": region or session.region_name or "us-east-1",
                "endpoint_url": endpoint,
            }
            client = session.client("s3", config=config, **where)
            if not client.meta.endpoint_url.endswith(("amazonaws.com", "amazonaws.com.cn")):
                # Other stores know no bucket as a host.
                client = session.client("s3", config=config.merge(Config(s3={"addressing_style": "path"})), **where)
        except aws.NoCredentials as error:
            raise EvidenceError(str(error)) from None
        except (BotoCoreError, ValueError) as error:
            raise self._failed(error) from None
        return aws.paced(client)

    def _failed(self, error: Exception, key: str = "") -> EvidenceError:
        word = _code(error) if isinstance(error, ClientError) else str(error) or type(error).__name__
        place = f"{self.name}/{key}" if key else self.name
        return EvidenceError(f"{place} cannot be read: {word}. {_HELP}")


def _ordered(found: list[Version]) -> list[Version]:
    """By key, oldest first. The store lists newest first; where times are equal, its order and "latest" decide."""
    oldest_first = found[::-1]
    return sorted(oldest_first, key=lambda one: (one.key, one.last_modified, one.is_latest))


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))
