"""Must show 7: nobody takes evidence back with the gateway's own credentials.

Each attempt on a shipped object is refused, or leaves the locked version as it was: there, readable, locked as long.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from ext_proc.audit import reader
from ext_proc.demo.stack import RETENTION_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Gateway


class Target:
    """A shipped object: where it is, and its one version that counts."""

    def __init__(self, gateway: Gateway, key: str, *, as_admin: bool = False) -> None:
        s3 = gateway.stack.s3
        self.client: Any = s3.client(as_admin=as_admin)
        self.bucket, self.key, self.store = s3.bucket, key, gateway.store
        listed = self.client.list_object_versions(Bucket=self.bucket, Prefix=key)["Versions"]
        self.version = min(reversed(listed), key=lambda one: one["LastModified"])["VersionId"]
        self.before = self.state()

    @property
    def where(self) -> dict[str, str]:
        """The version."""
        return {"Bucket": self.bucket, "Key": self.key, "VersionId": self.version}

    def state(self) -> tuple[bytes, str, datetime]:
        """Bytes, lock mode and its end, of the version."""
        got = self.client.get_object(**self.where)
        return got["Body"].read(), got["ObjectLockMode"], got["ObjectLockRetainUntilDate"]

    def is_unchanged(self) -> bool:
        """As it was, also as the gateway itself reads it."""
        stored = self.store.read_back(self.key)
        body, mode, until = self.before
        return self.state() == self.before and (stored.sha256, stored.lock_mode, stored.retain_until) == (
            hashlib.sha256(body).hexdigest(),
            mode,
            until,
        )


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)


def retention(target: Target, mode: str, until: datetime, **more: Any) -> Any:
    return target.client.put_object_retention(
        **target.where, Retention={"Mode": mode, "RetainUntilDate": until}, **more
    )


def batch(target: Target, *names: dict[str, str], **more: Any) -> Any:
    answer = target.client.delete_objects(Bucket=target.bucket, Delete={"Objects": list(names)}, **more)
    if answer.get("Errors"):
        error = {"Error": {"Code": answer["Errors"][0]["Code"], "Message": ""}}
        raise ClientError(error, "DeleteObjects")
    return answer


def expire(target: Target) -> None:
    """AWS asks for a permission of its own; SeaweedFS takes it from whoever may write, and keeps locked versions."""
    rule = {"ID": "x", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
    try:
        target.client.put_bucket_lifecycle_configuration(Bucket=target.bucket, LifecycleConfiguration={"Rules": [rule]})
    finally:
        target.client.delete_bucket_lifecycle(Bucket=target.bucket)


REFUSED: dict[str, Callable[[Target], Any]] = {
    "delete the version": lambda t: t.client.delete_object(**t.where),
    "delete it with the governance bypass": lambda t: t.client.delete_object(**t.where, BypassGovernanceRetention=True),
    "hide it behind a delete marker": lambda t: t.client.delete_object(Bucket=t.bucket, Key=t.key),
    "batch delete of the version": lambda t: batch(t, {"Key": t.key, "VersionId": t.version}),
    "batch delete of the key": lambda t: batch(t, {"Key": t.key}),
    "batch delete with the bypass": lambda t: batch(
        t, {"Key": t.key, "VersionId": t.version}, BypassGovernanceRetention=True
    ),
    "shorten the retention": lambda t: retention(t, "COMPLIANCE", soon()),
    "end the retention": lambda t: retention(t, "COMPLIANCE", datetime.now(UTC) - timedelta(days=1)),
    "downgrade to governance": lambda t: retention(t, "GOVERNANCE", t.before[2]),
    "downgrade with the bypass": lambda t: retention(t, "GOVERNANCE", soon(), BypassGovernanceRetention=True),
    "create it again": lambda t: t.client.put_object(Bucket=t.bucket, Key=t.key, Body=b"x", IfNoneMatch="*"),
    "suspend the versions": lambda t: t.client.put_bucket_versioning(
        Bucket=t.bucket, VersioningConfiguration={"Status": "Suspended"}
    ),
    "loosen the bucket's default": lambda t: t.client.put_object_lock_configuration(
        Bucket=t.bucket,
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}},
        },
    ),
    "delete the bucket's policy": lambda t: t.client.delete_bucket_policy(Bucket=t.bucket),
    "delete the bucket": lambda t: t.client.delete_bucket(Bucket=t.bucket),
}

WITHOUT_EFFECT: dict[str, Callable[[Target], Any]] = {
    "let objects expire": expire,
    "write over it": lambda t: t.client.put_object(Bucket=t.bucket, Key=t.key, Body=b"nothing happened"),
    "write over it with nothing": lambda t: t.client.put_object(Bucket=t.bucket, Key=t.key, Body=b""),
    "copy another object over it": lambda t: t.client.copy_object(
        Bucket=t.bucket, Key=t.key, CopySource={"Bucket": t.bucket, "Key": t.key}, MetadataDirective="REPLACE"
    ),
}

PRIVILEGED = [
    "delete the version",
    "delete it with the governance bypass",
    "batch delete of the version",
    "batch delete with the bypass",
    "shorten the retention",
    "end the retention",
    "downgrade to governance",
    "downgrade with the bypass",
]


@pytest.fixture(scope="module", params=["events", "payload"])
def evidence(request: pytest.FixtureRequest, gateway: Gateway) -> tuple[Gateway, str]:
    """One shipped object of each kind."""
    reply = gateway.chat("evidence to be attacked")
    assert reply.status == 200
    exchange_id = reply.header("x-affidavit-exchange")
    [(events, _)] = gateway.records(exchange_id, "inference.intent")
    if request.param == "events":
        return gateway, events
    place, _, name = events.removeprefix("v1/events/").rpartition("/")
    [pack] = gateway.store.keys(f"v1/payload/{place}/{name[:33]}-")
    return gateway, pack


def test_what_is_shipped_is_locked_for_as_long_as_configured(evidence):
    gateway, key = evidence
    _, mode, until = Target(gateway, key).before
    assert mode == "COMPLIANCE"
    assert until > datetime.now(UTC) + timedelta(days=RETENTION_DAYS - 1)


@pytest.mark.parametrize("attempt", REFUSED)
def test_refused_by_the_store(evidence, attempt):
    target = Target(*evidence)
    with pytest.raises(ClientError) as refusal:
        REFUSED[attempt](target)
    # Said by the store, about this: not a mistake in how it was asked.
    assert refusal.value.response["Error"]["Code"] in {
        "AccessDenied", "InvalidRequest", "PreconditionFailed", "InvalidBucketState", "InvalidRetentionPeriod",
        "InvalidArgument",
    }, refusal.value.response  # fmt: skip
    assert target.is_unchanged()


@pytest.mark.parametrize("attempt", WITHOUT_EFFECT)
def test_without_effect_on_the_locked_version(evidence, attempt):
    target = Target(*evidence)
    try:
        WITHOUT_EFFECT[attempt](target)
    except ClientError as error:
        assert error.response["Error"]["Code"] in {"AccessDenied", "InvalidRequest"}, error.response  # noqa: PT017
    assert target.is_unchanged()


@pytest.mark.parametrize("attempt", PRIVILEGED)
def test_not_even_the_bucket_s_administrator(evidence, attempt):
    """COMPLIANCE is what makes it so, not the gateway's few permissions."""
    gateway, key = evidence
    target = Target(gateway, key, as_admin=True)
    with pytest.raises(ClientError):
        REFUSED[attempt](target)
    assert target.is_unchanged()


def test_after_all_that_the_records_read_as_before(evidence):
    gateway, key = evidence
    if "/events/" not in key:
        return
    for line_key, leaf in gateway.read():
        if line_key == key:
            assert leaf["schema"] == "affidavit/v1"
    fresh = [leaf for name, leaf in reader.leaves(gateway.store) if name == key]
    assert fresh == [leaf for name, leaf in gateway.read() if name == key]
    assert fresh


def test_the_checksum_is_the_store_s_own_too(evidence):
    """Third parties may ask the store for it, without reading the object."""
    gateway, key = evidence
    target = Target(gateway, key)
    head = target.client.head_object(**target.where, ChecksumMode="ENABLED")
    wanted = base64.b64encode(hashlib.sha256(target.before[0]).digest()).decode()
    assert head["ChecksumSHA256"] == wanted
