"""The canary against a store that locks and against one that pretends to: it passes the one and names the other's holes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from moto.server import ThreadedMotoServer

from ext_proc.audit.canary import GOALS
from ext_proc.audit.canary_s3 import run_canary
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.demo.programs import free_ports
from ext_proc.demo.seaweed import Seaweed, start_seaweed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.audit.canary import CanaryReport

MOTO_BUCKET = "evidence"
MOTO_HOLES = {
    "wrong_checksum",
    "past_retention",
    "shorten",
    "shorten_bypass",
    "downgrade",
    "downgrade_bypass",
    "unlock",
    "unlock_bypass",
    "multipart_lock",
    "suspend_versioning",
}


def clock() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory) -> Iterator[Seaweed]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", retention_days=2)
    yield server
    server.program.stop()


@pytest.fixture
def moto() -> Iterator[Any]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _forget()  # its buckets are the process's: another test's would still be there
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3",
        endpoint_url=f"http://{host}:{port}",
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="asks",
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=MOTO_BUCKET, ObjectLockEnabledForBucket=True)
    lock(client, MOTO_BUCKET, "COMPLIANCE")
    yield client
    server.stop()


def lock(client: Any, bucket: str, mode: str) -> None:
    rule = {"DefaultRetention": {"Mode": mode, "Days": 2}}
    client.put_object_lock_configuration(
        Bucket=bucket, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )


def found(report: CanaryReport) -> dict[str, str]:
    return {check.name: check.found for check in report.checks}


def test_seaweedfs_holds_with_the_gateways_own_credentials(seaweed: Seaweed):
    report = run_canary(seaweed.client(), seaweed.bucket, "p/", "epoch-1", clock)
    assert report.holes == ()
    assert report.ok
    assert tuple(check.name for check in report.checks) == tuple(GOALS)
    assert report.store == f"{seaweed.endpoint.removeprefix('http://')}/{seaweed.bucket}"
    # These credentials may neither delete nor set a lock: permission stands before the lock, and the report says so.
    for name in ("delete_version", "delete_batch_bypass", "shorten", "downgrade_bypass", "bucket_lock"):
        assert "for lack of permission (AccessDenied)" in found(report)[name]


def test_seaweedfs_holds_even_against_an_administrator_and_the_report_says_by_the_lock(seaweed: Seaweed):
    admin = seaweed.client(as_admin=True)
    bucket = "no-policy"
    admin.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=True)
    lock(admin, bucket, "COMPLIANCE")
    before = admin.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    report = run_canary(admin, bucket, "", "epoch-1", clock)
    # An administrator may write the bucket's rule. Such credentials are no gateway's, and the canary says so.
    assert report.holes == ("bucket_lock",)
    for name in (
        "delete_version",
        "delete_version_bypass",
        "delete_batch",
        "shorten",
        "shorten_bypass",
        "downgrade_bypass",
    ):
        assert "by the lock (AccessDenied)" in found(report)[name]
    assert found(report)["delete_marker"] == "accepted, first version as it was"
    # The run left the bucket as it was.
    assert admin.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"] == before
    assert admin.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_baits_are_few_lie_in_their_folder_and_are_never_used_twice(seaweed: Seaweed):
    client = seaweed.client()
    for _ in range(2):
        assert run_canary(client, seaweed.bucket, "few/", "epoch-1", clock).ok
    listed = client.list_object_versions(Bucket=seaweed.bucket, Prefix="few/")
    keys = {item["Key"] for item in listed["Versions"]}
    assert len(keys) == 2 * 3
    assert len(listed["Versions"]) == 2 * 5
    assert all(key.startswith("few/v1/canary/epoch-1/") and key.count("/") == 4 for key in keys)
    assert not client.list_multipart_uploads(Bucket=seaweed.bucket, Prefix="few/").get("Uploads")


def test_governance_by_default_is_a_hole(seaweed: Seaweed):
    admin = seaweed.client(as_admin=True)
    admin.create_bucket(Bucket="governed", ObjectLockEnabledForBucket=True)
    lock(admin, "governed", "GOVERNANCE")
    report = run_canary(admin, "governed", "", "epoch-1", clock)
    assert {"default_lock", "multipart_lock", "delete_version_bypass", "delete_batch_bypass"} <= set(report.holes)
    assert "delete_version" not in report.holes


def test_a_bucket_without_a_default_is_a_hole(seaweed: Seaweed):
    admin = seaweed.client(as_admin=True)
    admin.create_bucket(Bucket="bare", ObjectLockEnabledForBucket=True)
    report = run_canary(admin, "bare", "", "epoch-1", clock)
    assert {"default_lock", "delete_version", "delete_batch", "multipart_lock"} <= set(report.holes)
    assert found(report)["default_lock"] == "not locked"


def test_motos_holes_are_named(moto: Any):
    report = run_canary(moto, MOTO_BUCKET, "", "epoch-1", clock)
    assert set(report.holes) == MOTO_HOLES
    assert "lock now ends" in found(report)["shorten"]
    assert found(report)["downgrade"].endswith("mode is now GOVERNANCE")
    assert found(report)["multipart_lock"] == "not locked"
    # What it was allowed to break, it has mended.
    assert moto.get_bucket_versioning(Bucket=MOTO_BUCKET)["Status"] == "Enabled"


def test_no_answer_says_nothing_of_the_store(seaweed: Seaweed):
    [port] = free_ports(1)
    nobody = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2),
    )
    with pytest.raises(StoreUnavailable):
        run_canary(nobody, "evidence", "", "epoch-1", clock)
    with pytest.raises(StoreRefused):
        run_canary(seaweed.client(), "not-ours", "", "epoch-1", clock)


def _forget() -> None:
    from moto.core.base_backend import BackendDict
    from moto.s3.models import s3_backends

    assert isinstance(s3_backends, BackendDict)
    s3_backends.reset()
