"""The evidence in S3, read with whatever credentials and endpoint the AWS libraries find. The only file that calls AWS.

The time is the store's own (the ``Date`` of its answer): what was written after it is left to the next verification, so
that a gateway at work does not look like one that was tampered with.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from ext_proc.aws import paced, session
from ext_proc.verify.findings import VerifyError
from ext_proc.verify.source import Absent, BucketFacts, Lock, Opened, Version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.verify.findings import Findings

READ_SECONDS: Final = 60
"""Until something of an answer comes, and for each piece of it: see `ext_proc.pace`."""
_RETRIES: Final[Any] = {"total_max_attempts": 6, "mode": "standard"}
_ABSENT: Final = ("NoSuchKey", "NoSuchVersion", "404", "NotFound", "MethodNotAllowed", "405")
_NO_ANSWER: Final = (BotoCoreError, ResponseParserError, OSError, RecursionError, ValueError, KeyError)
"""Nothing came, or something that is not S3's: a proxy's page, a redirect (botocore asks about one without end), a
number or a time that is none, a part that is missing."""
_UNLOCKED: Final = ("ObjectLockConfigurationNotFoundError", "NotImplemented", "InvalidRequest")


class BucketSource:
    """A bucket, below a prefix.

    Args:
        bucket: its name.
        prefix: before every key; empty or ending in a slash.
    """

    is_remote = True
    is_newest_first = True

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._client: Any = None
        self._start = datetime.max.replace(tzinfo=UTC)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": None}

    @classmethod
    def of_url(cls, url: str) -> BucketSource:
        """From ``s3://bucket/prefix``.

        Raises:
            VerifyError: it names no bucket.
        """
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise VerifyError(f"{url}: name a bucket, such as s3://evidence/prefix")
        return cls(bucket, prefix.rstrip("/") + "/" if prefix.strip("/") else "")

    def facts(self, findings: Findings) -> BucketFacts:  # noqa: ARG002 - see `Source.facts`
        """See `Source.facts`."""
        try:
            told = self._s3().get_bucket_versioning(Bucket=self._bucket)
            is_lockable = self._is_lockable()
            date = told["ResponseMetadata"]["HTTPHeaders"].get("date")
            at = parsedate_to_datetime(date).astimezone(UTC) if date else None
        except (ClientError, *_NO_ANSWER) as error:
            raise self._failed(error) from None
        if at is None:
            raise VerifyError(f"s3://{self._bucket}: the store does not say what time it is (no Date header)")
        self._start = at
        return BucketFacts(f"s3://{self._bucket}", told.get("Status") == "Enabled", is_lockable, self._start)

    def versions(self, findings: Findings) -> Iterator[Version]:  # noqa: ARG002
        """See `Source.versions`."""
        try:
            for page in self._pages():
                for item in page.get("Versions", ()):
                    if item["LastModified"] <= self._start:
                        yield self._version(item, is_marker=False)
                for item in page.get("DeleteMarkers", ()):
                    if item["LastModified"] <= self._start:
                        yield self._version(item, is_marker=True)
        except (ClientError, *_NO_ANSWER) as error:
            raise self._failed(error) from None

    def _pages(self) -> Iterator[dict[str, Any]]:
        """Only pages of a listing: anybody's XML reads like one of a bucket where nothing is. And none twice, for
        ever.
        """
        seen: set[tuple[object, object]] = set()
        pages = self._s3().get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=self._prefix)
        for page in pages:
            at = (page.get("NextKeyMarker"), page.get("NextVersionIdMarker"))
            if "IsTruncated" not in page or at in seen:
                raise VerifyError(f"s3://{self._bucket}: what came is not a listing, or begins again. Try again")
            seen.add(at)
            yield page

    def open(self, version: Version) -> Opened:
        """See `Source.open`."""
        told = self._ask("get_object", version)
        return Opened(_Body(told["Body"], self._bucket), _lock(told))

    def lock(self, version: Version) -> Lock:
        """See `Source.lock`."""
        return _lock(self._ask("head_object", version))

    def _ask(self, action: str, version: Version) -> dict[str, Any]:
        where = {"Bucket": self._bucket, "Key": self._prefix + version.key, "VersionId": version.place}
        try:
            told: dict[str, Any] = getattr(self._s3(), action)(**where)
        except ClientError as error:
            if _code(error) in _ABSENT:
                raise Absent(version.key) from None
            raise self._failed(error) from None
        except _NO_ANSWER as error:
            raise self._failed(error) from None
        return told

    def _s3(self) -> Any:
        if self._client is None:
            config = Config(connect_timeout=10, read_timeout=READ_SECONDS, retries=_RETRIES, max_pool_connections=32)
            try:
                made = session(None)
                region = made.region_name or "us-east-1"
                client = made.client("s3", region_name=region, config=config)
                if not client.meta.endpoint_url.endswith("amazonaws.com"):  # other stores know no bucket as a host
                    by_path = config.merge(Config(s3={"addressing_style": "path"}))
                    client = made.client("s3", region_name=region, config=by_path)
                self._client = paced(client)
            except (BotoCoreError, ValueError) as error:
                raise self._failed(error) from None
        return self._client

    def _is_lockable(self) -> bool:
        try:
            told = self._s3().get_object_lock_configuration(Bucket=self._bucket)
        except ClientError as error:
            if _code(error) in _UNLOCKED:
                return False
            raise
        return bool(told.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") == "Enabled")

    def _version(self, item: dict[str, Any], *, is_marker: bool) -> Version:
        key, version = item["Key"][len(self._prefix) :], str(item["VersionId"])
        size = int(item.get("Size", 0))
        at = item["LastModified"].astimezone(UTC)
        return Version(key, version, bool(item.get("IsLatest")), is_marker, size, at, version)

    def _failed(self, error: Exception) -> VerifyError:
        word = _code(error) if isinstance(error, ClientError) else f"{type(error).__name__}: {error}"
        return VerifyError(
            f"s3://{self._bucket} cannot be read: {word}. Credentials, region and endpoint come from the usual AWS "
            "variables and profiles (AWS_PROFILE, AWS_ENDPOINT_URL ...); reading needs s3:ListBucketVersions, "
            "s3:GetObjectVersion, s3:GetObjectRetention, s3:GetBucketVersioning and "
            "s3:GetBucketObjectLockConfiguration"
        )


class _Body:
    """The bytes of an answer; a broken connection is no finding, it is a verification that could not run."""

    def __init__(self, body: Any, bucket: str) -> None:
        self._body = body
        self._bucket = bucket

    def read(self, size: int = -1, /) -> bytes:
        try:
            chunk: bytes = self._body.read(size if size >= 0 else None)
        except _NO_ANSWER as error:
            raise VerifyError(f"s3://{self._bucket}: reading broke off ({type(error).__name__}). Try again") from None
        return chunk

    def close(self) -> None:
        self._body.close()


def _lock(told: dict[str, Any]) -> Lock:
    until = told.get("ObjectLockRetainUntilDate")
    return Lock(told.get("ObjectLockMode"), until.astimezone(UTC) if until else None)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
