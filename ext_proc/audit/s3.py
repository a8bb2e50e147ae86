"""The store as S3 with Object Lock. The gate speaks to AWS here, and in `canary_s3` and `signer_kms`.

The bucket's default retention locks what is put, so that the gateway's identity needs neither ``PutObjectRetention``
nor any delete permission; `read_back` shows whether it did.
"""

from __future__ import annotations

import base64
import hashlib
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from botocore.config import Config as BotoConfig
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.parsers import ResponseParserError

from ext_proc import aws
from ext_proc.audit.store import Stored, StoreRefused, StoreUnavailable
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

READ_SECONDS: Final = 30
"""Until something of an answer comes, and for each piece of it: see `ext_proc.pace`."""
_EXISTS: Final = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_ABSENT: Final = ("NoSuchKey", "404", "NotFound")
_UNCHANGED: Final = ("304", "NotModified")
NO_ANSWER: Final = (BotoCoreError, ResponseParserError, OSError, RecursionError, ValueError, KeyError)
"""Nothing came, or something that is not S3's: a proxy's page, a redirect (botocore asks about one without end), a
number or a time that is none, a part that is missing."""
_FINAL: Final = ("AccessDenied", "NoSuchBucket", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403")
_LOCKS_NOTHING: Final = ("ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration")
_PASSING: Final = (404, 408, 409, 412, 425, 429)
_PASSING_CODES: Final = ("ExpiredToken", "RequestTimeout", "RequestTimeTooSkewed", "SlowDown", "ThrottlingException")
"""What mends itself: the clock is set, the role's token renewed, the crowd gone. Every other 4xx is for a person."""


class S3Store:
    """`Store` in a bucket, below a prefix.

    Args:
        bucket: its name.
        prefix: put before every key; empty or ending in a slash.
        region: the bucket's.
        endpoint: another server than AWS.
        credentials_file: AWS credentials file with a ``[default]`` section; None: the usual chain.

    Raises:
        ConfigError: the credentials file or the endpoint is none.
    """

    def __init__(
        self, bucket: str, prefix: str, region: str, endpoint: str | None = None, credentials_file: Path | None = None
    ) -> None:
        self._bucket = bucket
        self.prefix = prefix
        options = BotoConfig(
            connect_timeout=5,
            read_timeout=READ_SECONDS,
            # One attempt: the shipper retries, and looks at what is there before it does.
            retries={"total_max_attempts": 1, "mode": "standard"},
            s3={"addressing_style": "path"} if endpoint else {},
        )
        try:
            session = aws.session(credentials_file)
            made = session.client("s3", region_name=region, endpoint_url=endpoint, config=options)
        except aws.NoCredentials as error:
            raise ConfigError(str(error)) from None
        except ValueError:
            raise ConfigError(f"audit.s3.endpoint: {endpoint}: not a URL") from None
        self.client: Any = aws.paced(made)
        self.said_at: tuple[datetime, float] | None = None
        """The store's clock as its newest answer had it (whole seconds), and ours then, as `monotonic` has it."""
        self.client.meta.events.register("after-call.s3", self._heard)

    def _heard(self, http_response: Any, **_: object) -> None:
        with suppress(TypeError, ValueError):  # an answer without a date, or not with one of HTTP's
            self.said_at = (parsedate_to_datetime(http_response.headers.get("date")), monotonic())

    def put(self, key: str, body: bytes, sha256: str) -> None:
        """See `Store.put`."""
        try:
            self.client.put_object(
                Bucket=self._bucket,
                Key=self.prefix + key,
                Body=body,
                IfNoneMatch="*",
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=base64.b64encode(bytes.fromhex(sha256)).decode(),
            )
        except ClientError as error:
            if code_of(error) not in _EXISTS:
                raise _translated(error) from None
        except NO_ANSWER as error:
            raise _unanswered(error) from None

    def read_back(self, key: str) -> Stored | None:
        """See `Store.read_back`."""
        try:
            oldest = self._oldest(key)
            if oldest is None:
                return None
            body = self._read(oldest)
            head = self.client.head_object(**self._where(oldest))
        except ClientError as error:
            if code_of(error) in _ABSENT:
                return None
            raise _translated(error) from None
        except NO_ANSWER as error:
            raise _unanswered(error) from None
        return Stored(
            sha256=hashlib.sha256(body).hexdigest(),
            size_bytes=len(body),
            lock_mode=head.get("ObjectLockMode"),
            retain_until=head.get("ObjectLockRetainUntilDate"),
            version=oldest["VersionId"],
        )

    def fetch(self, key: str) -> bytes:
        """See `Store.fetch`."""
        try:
            oldest = self._oldest(key)
            if oldest is None:
                raise StoreUnavailable("no such object")
            return self._read(oldest)
        except ClientError as error:
            raise _translated(error) from None
        except NO_ANSWER as error:
            raise _unanswered(error) from None

    def changed(self, key: str, seen: str | None, most: int) -> tuple[str, bytes] | None:
        """The newest version of what may be written over, and its entity tag: no evidence. None: it is still ``seen``.

        Args:
            key: its whole key.
            seen: the tag that it had.
            most: so many bytes are read; one more tells that there are more.

        Raises:
            StoreUnavailable: no answer, or no such object.
            StoreRefused: the store does not let us.
        """
        condition = {} if seen is None else {"IfNoneMatch": seen}
        try:
            found = self.client.get_object(Bucket=self._bucket, Key=key, **condition)
            with closing(found["Body"]) as body:  # as its own context manager it would raise what is not botocore's
                raw: bytes = body.read(most + 1)
        except ClientError as error:
            if code_of(error) in _UNCHANGED:
                return None
            raise _translated(error) from None
        except NO_ANSWER as error:
            raise _unanswered(error) from None
        return str(found.get("ETag", "")), raw

    def _where(self, version: dict[str, Any]) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": version["Key"], "VersionId": version["VersionId"]}

    def _read(self, version: dict[str, Any]) -> bytes:
        """A version's bytes, as many as the store listed: what somebody between cut short is not what is there."""
        body: bytes = self.client.get_object(**self._where(version))["Body"].read()
        if len(body) != version["Size"]:
            raise StoreUnavailable("an object came with another length than it is listed with")
        return body

    def _oldest(self, key: str) -> dict[str, Any] | None:
        """The version that was there first: the only one that is ours. Whoever writes over it makes a later one."""
        wanted = self.prefix + key
        pages = _pages(self.client.get_paginator("list_object_versions").paginate(Bucket=self._bucket, Prefix=wanted))
        found = [item for page in pages for item in page.get("Versions", ()) if item["Key"] == wanted]
        # Newest first by the API's contract; the time decides, and the order where times are equal.
        return min(reversed(found), key=lambda item: item["LastModified"]) if found else None

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        try:
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self.prefix + prefix
            )
            for page in _pages(pages):
                for item in page.get("Contents", ()):
                    yield item["Key"][len(self.prefix) :]
        except ClientError as error:
            raise _translated(error) from None
        except NO_ANSWER as error:
            raise _unanswered(error) from None


class BucketSettings:
    """What a bucket's owner set, for whoever may look: the gateway itself need not.

    Every method raises `StoreRefused` (its word is the code) where it may not, `StoreUnavailable` where nobody answers.
    """

    def __init__(self, store: S3Store, bucket: str) -> None:
        self._store, self._bucket = store, bucket

    def reach(self) -> None:
        """Does it answer, and may we list?"""
        self._asked(lambda client: client.list_objects_v2(Bucket=self._bucket, Prefix=self._store.prefix, MaxKeys=1))

    def default_retention(self) -> tuple[str | None, int]:
        """The mode in which everything is locked that is put, and days; None and 0 where nothing is."""
        try:
            told = self._asked(lambda client: client.get_object_lock_configuration(Bucket=self._bucket))
        except (StoreRefused, StoreUnavailable) as error:
            if str(error) in _LOCKS_NOTHING:
                return None, 0
            raise
        rule = told["ObjectLockConfiguration"].get("Rule", {}).get("DefaultRetention", {})
        return rule.get("Mode"), rule.get("Days", 0) or 365 * rule.get("Years", 0)

    def versioning(self) -> str:
        """``Enabled``, ``Suspended``, or empty: never."""
        return str(self._asked(lambda client: client.get_bucket_versioning(Bucket=self._bucket)).get("Status", ""))

    def _asked(self, ask: Callable[[Any], Any]) -> Any:
        try:
            return ask(self._store.client)
        except ClientError as error:
            raise _translated(error) from None
        except NO_ANSWER as error:
            raise _unanswered(error) from None


def _pages(pages: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Only pages of a listing: anybody's XML reads like one of a bucket where nothing is. And none twice, for ever."""
    seen: set[str] = set()
    for page in pages:
        if "IsTruncated" not in page:
            raise StoreUnavailable("not a listing")
        yield page
        at = repr([page.get(name) for name in ("NextContinuationToken", "NextKeyMarker", "NextVersionIdMarker")])
        if at in seen:
            raise StoreUnavailable("a listing that begins again")
        seen.add(at)


def _unanswered(error: Exception) -> StoreUnavailable:
    hint = ": name audit.s3.credentials_file, or give AWS_..." if isinstance(error, NoCredentialsError) else ""
    return StoreUnavailable(f"{type(error).__name__}{hint}")


def code_of(error: ClientError) -> str:
    """What S3 calls it; empty where it gave it no name."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _translated(error: ClientError) -> StoreUnavailable | StoreRefused:
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    is_final = code in _FINAL or (400 <= status < 500 and status not in _PASSING and code not in _PASSING_CODES)
    return StoreRefused(code) if is_final else StoreUnavailable(code)
