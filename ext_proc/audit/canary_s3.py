"""The WORM canary's attacks on a bucket.

They are made with the gateway's own credentials: what these can do to evidence is what a thief of them can do.

Baits are locked by the bucket's default, like evidence, and for as long: only so does the canary show the lock that
evidence has, and with the permissions that the gateway has (a lock of the canary's own would need
``PutObjectRetention``). The price is small: one run of a store that holds leaves three keys with five versions of less
than 200 bytes, until their lock ends and a lifecycle rule on ``v1/canary/`` may take them.

A run never leaves the bucket worse than it was: the bucket's lock configuration is only written with what it holds
already, and versioning is turned on again at once if the store let us suspend it.
"""

from __future__ import annotations

import base64
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from botocore.exceptions import ClientError, FlexibleChecksumError

from ext_proc.audit.canary import (
    COMPLIANCE,
    RACERS,
    Answer,
    Attempt,
    CanaryReport,
    Check,
    Held,
    Refuser,
    damage,
    judge,
    judge_race,
)
from ext_proc.audit.s3 import NO_ANSWER
from ext_proc.audit.store import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

_DENIED: Final = ("AccessDenied", "AccessDeniedException", "AllAccessDisabled", "Forbidden", "403")
_CONDITION: Final = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
_BY_LOCK: Final = ("InvalidBucketState", "ObjectLocked")
_ABSENT: Final = ("NoSuchKey", "NoSuchVersion", "404", "NotFound", "MethodNotAllowed", "405")
_BYPASS: Final[Mapping[str, Mapping[str, Any]]] = {"": {}, "_bypass": {"BypassGovernanceRetention": True}}
# No rule has both, so no store can take it: sent only where the rule in force cannot be read.
_IMPOSSIBLE: Final = {
    "ObjectLockEnabled": "Enabled",
    "Rule": {"DefaultRetention": {"Mode": COMPLIANCE, "Days": 1, "Years": 1}},
}


def run_canary(client: Any, bucket: str, prefix: str, epoch: str, clock: Callable[[], datetime]) -> CanaryReport:
    """Lay baits under ``v1/canary/<epoch>/``, attack them, and tell what the store did.

    Args:
        client: an S3 client with the gateway's own credentials, safe for several threads, that does not retry.
        bucket: its name.
        prefix: put before every key; empty or ending in a slash.
        epoch: of the log that will hold the report.
        clock: aware UTC.

    Raises:
        StoreUnavailable: no answer, or one that may pass: nothing is known of the store, run again later.
        StoreRefused: not even a bait can be written or read.
    """
    try:
        return _Run(client, bucket, f"{prefix}v1/canary/{epoch}/", clock).report()
    except ClientError as error:
        code = _code(error)
        raise (StoreRefused(code) if code in _DENIED else StoreUnavailable(code)) from None
    except NO_ANSWER as error:
        raise StoreUnavailable(type(error).__name__) from None


class _Run:
    def __init__(self, client: Any, bucket: str, folder: str, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._bucket = bucket
        self._folder = folder
        self._clock = clock
        self._stamp = clock().strftime("%Y%m%dT%H%M%S%f")  # one epoch has many runs, and no key is used twice
        self._baits = 0
        self._checks: list[Check] = []
        self._server = ""
        self._lay()

    def report(self) -> CanaryReport:
        """Every check of `GOALS`, in its order."""
        self._judge("default_lock", Attempt(Answer(), after=self._bait))
        self._at_bait("create_twice", lambda: self._create(self._key, b"other"))
        self._absent("wrong_checksum", lambda key: self._create(key, b"other", hashlib.sha256(b"not it").digest()))
        gone: dict[str, Any] = {
            "ObjectLockMode": COMPLIANCE,
            "ObjectLockRetainUntilDate": self._clock() - timedelta(days=1),
        }
        self._absent("past_retention", lambda key: self._create(key, b"other", **gone))
        for name, act in (("delete_version", self._delete), ("delete_batch", self._delete_batch)):
            for suffix, bypass in _BYPASS.items():
                self._at_bait(f"{name}{suffix}", *self._deletion(act, bypass))
        for name, weaker in (("shorten", self._shorter), ("downgrade", self._governance), ("unlock", dict)):
            for suffix, bypass in _BYPASS.items():
                self._at_bait(f"{name}{suffix}", *self._retention(weaker, bypass))
        self._at_bait("copy_over_itself", self._copy)
        self._at_bait("overwrite", lambda: self._put(self._key, b"later"))
        self._multipart()
        self._at_bait("delete_marker", lambda: self._delete_here(self._key))
        self._race()
        self._judge("bucket_lock", Attempt(self._try(self._write_bucket_lock)))
        self._suspend_versioning()
        host = urlsplit(self._client.meta.endpoint_url).netloc
        return CanaryReport(tuple(self._checks), f"{host}/{self._bucket}", self._server)

    # Baits

    def _lay(self) -> None:
        """A fresh bait: at the start, and after an attack that harmed the one before."""
        self._baits += 1
        self._key = self._name("bait" if self._baits == 1 else f"bait{self._baits}")
        made = self._create(self._key, self._key.encode())
        self._server = made["ResponseMetadata"]["HTTPHeaders"].get("server", "")
        self._version = made.get("VersionId", "null")
        self._bait = self._held(self._key, self._version)
        if self._bait is None:
            raise StoreUnavailable("a bait is not there after put")

    def _name(self, what: str) -> str:
        return f"{self._folder}{self._stamp}-{what}"

    def _held(self, key: str, version: str | None = None) -> Held | None:
        """A version as it is now; without ``version`` whichever is current."""
        which = {"VersionId": version} if version else {}
        try:
            found = self._client.get_object(Bucket=self._bucket, Key=key, **which)
        except ClientError as error:
            if _code(error) in _ABSENT:
                return None
            raise
        try:
            digest = hashlib.sha256(found["Body"].read()).hexdigest()
        except FlexibleChecksumError:
            digest = "not the store's own checksum"  # it kept what it was told not to believe
        return Held(digest, found.get("ObjectLockMode"), found.get("ObjectLockRetainUntilDate"))

    # Attempts

    def _judge(self, name: str, attempt: Attempt) -> Check:
        check = judge(name, attempt, self._clock())
        self._checks.append(check)
        return check

    def _at_bait(self, name: str, attack: Callable[[], Any], control: Callable[[], Any] | None = None) -> None:
        """Attack the bait; ``control`` is the same act where no lock is in its way: it shows who refused."""
        answer = self._try(attack)
        if control is not None and answer.code in _DENIED:
            is_free = self._try(control).code not in _DENIED
            answer = Answer(answer.code, Refuser.LOCK if is_free else Refuser.PERMISSION)
        before, self._bait = self._bait, self._held(self._key, self._version)
        self._judge(name, Attempt(answer, before, self._bait))
        if damage(before, self._bait):
            self._lay()

    def _absent(self, name: str, attack: Callable[[str], Any]) -> None:
        key = self._name(name)
        answer = self._try(lambda: attack(key))
        self._judge(name, Attempt(answer, after=self._held(key)))

    def _try(self, attack: Callable[[], Any]) -> Answer:
        """The answer to an attack.

        Raises:
            ClientError: a server's error (5xx): it says nothing about the lock.
        """
        try:
            attack()
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
                raise
            code = _code(error) or "unnamed"
            return Answer(code, _refuser(code))
        return Answer()

    # Single acts

    def _create(self, key: str, body: bytes, digest: bytes | None = None, **more: Any) -> Any:
        return self._put(key, body, digest, IfNoneMatch="*", **more)

    def _put(self, key: str, body: bytes, digest: bytes | None = None, **more: Any) -> Any:
        checksum = base64.b64encode(digest or hashlib.sha256(body).digest()).decode()
        return self._client.put_object(
            Bucket=self._bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256", ChecksumSHA256=checksum, **more
        )

    def _deletion(
        self, act: Callable[..., None], bypass: Mapping[str, Any]
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """Deleting the bait's version, and for control a version that never was."""
        nothing = self._name("nothing")
        return (
            lambda: act(self._key, self._version, **bypass),
            lambda: act(nothing, self._version, **bypass),
        )

    def _delete(self, key: str, version: str, **more: Any) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key, VersionId=version, **more)

    def _delete_here(self, key: str) -> None:
        self._client.delete_object(Bucket=self._bucket, Key=key)

    def _delete_batch(self, key: str, version: str, **more: Any) -> None:
        which = {"Objects": [{"Key": key, "VersionId": version}]}
        said = self._client.delete_objects(Bucket=self._bucket, Delete=which, ChecksumAlgorithm="SHA256", **more)
        for one in said.get("Errors", ()):  # 200 for the batch, and the refusals inside
            raise ClientError({"Error": {"Code": one.get("Code", "unnamed")}}, "DeleteObjects")

    def _retention(
        self, weaker: Callable[[], dict[str, Any]], bypass: Mapping[str, Any]
    ) -> tuple[Callable[[], None], Callable[[], None]]:
        """A weaker lock on the bait, and for control a lock that ends a second later."""

        def put(lock: dict[str, Any]) -> None:
            self._client.put_object_retention(
                Bucket=self._bucket,
                Key=self._key,
                VersionId=self._version,
                Retention=lock,
                ChecksumAlgorithm="SHA256",
                **bypass,
            )

        return lambda: put(weaker()), lambda: put(self._longer())

    def _until(self) -> datetime:
        """The end of the bait's lock; a bait that was never locked is attacked as if it were, for a day."""
        locked = self._bait.until if self._bait else None
        return locked or self._clock() + timedelta(days=1)

    def _longer(self) -> dict[str, Any]:
        return {"Mode": COMPLIANCE, "RetainUntilDate": self._until() + timedelta(seconds=1)}

    def _shorter(self) -> dict[str, Any]:
        return {"Mode": COMPLIANCE, "RetainUntilDate": self._clock() + (self._until() - self._clock()) / 2}

    def _governance(self) -> dict[str, Any]:
        return {"Mode": "GOVERNANCE", "RetainUntilDate": self._until() + timedelta(seconds=1)}

    def _copy(self) -> None:
        source = {"Bucket": self._bucket, "Key": self._key, "VersionId": self._version}
        self._client.copy_object(
            Bucket=self._bucket,
            Key=self._key,
            CopySource=source,
            MetadataDirective="REPLACE",
            ChecksumAlgorithm="SHA256",
        )

    # Larger ones

    def _multipart(self) -> None:
        key = self._name("multipart")
        answer = self._try(lambda: self._upload(key, b"in parts"))
        self._judge("multipart_lock", Attempt(answer, after=self._held(key)))
        self._at_bait("multipart_create_twice", lambda: self._upload(self._key, b"other", IfNoneMatch="*"))

    def _upload(self, key: str, body: bytes, **more: Any) -> None:
        where = {"Bucket": self._bucket, "Key": key}
        upload = self._client.create_multipart_upload(**where)["UploadId"]
        try:
            part = self._client.upload_part(**where, UploadId=upload, PartNumber=1, Body=body)
            parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
            self._client.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts, **more)
        except ClientError:
            # Best effort: what is left is no object, and the refusal is what matters.
            self._try(lambda: self._client.abort_multipart_upload(**where, UploadId=upload))
            raise

    def _race(self) -> None:
        key = self._name("race")
        with ThreadPoolExecutor(RACERS) as pool:
            answers = list(
                pool.map(lambda racer: self._try(lambda: self._create(key, f"racer {racer}".encode())), range(RACERS))
            )
        listed = self._client.list_object_versions(Bucket=self._bucket, Prefix=key)
        versions = sum(item["Key"] == key for item in listed.get("Versions", ()))
        self._checks.append(judge_race(sum(answer.is_accepted for answer in answers), versions))

    def _write_bucket_lock(self) -> None:
        """May these credentials write the bucket's lock? Shown with the rule that is in force: nothing changes."""
        try:
            found = self._client.get_object_lock_configuration(Bucket=self._bucket)["ObjectLockConfiguration"]
        except ClientError:
            found = _IMPOSSIBLE
        self._client.put_object_lock_configuration(
            Bucket=self._bucket, ObjectLockConfiguration=found, ChecksumAlgorithm="SHA256"
        )

    def _suspend_versioning(self) -> None:
        def turn(status: str) -> None:
            self._client.put_bucket_versioning(
                Bucket=self._bucket, VersioningConfiguration={"Status": status}, ChecksumAlgorithm="SHA256"
            )

        answer = self._try(lambda: turn("Suspended"))
        if answer.is_accepted:
            turn("Enabled")
        self._judge("suspend_versioning", Attempt(answer))


def _refuser(code: str) -> Refuser:
    if code in _DENIED:
        return Refuser.PERMISSION
    if code in _CONDITION:
        return Refuser.CONDITION
    return Refuser.LOCK if code in _BY_LOCK else Refuser.STORE


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))
