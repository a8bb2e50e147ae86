"""A few tamperers on a real store that enforces Object Lock: what the bucket form finds by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.demo.programs import ProgramError
from ext_proc.demo.seaweed import start_seaweed
from ext_proc.verify import Progress, VerifyError, verify
from tests.fakes.forge import RETENTION_DAYS, Forge, plan_worker, segment


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seaweed")
    try:
        server = start_seaweed(folder, folder / "logs", RETENTION_DAYS)
    except ProgramError as error:
        pytest.fail(f"SeaweedFS must be there: {error}")
    yield server
    server.program.stop()


@pytest.fixture
def aws(store, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.admin_access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.admin_secret_key)
    monkeypatch.setenv("AWS_DEFAULT_REGION", store.region)


def a_living_log(now: datetime) -> Forge:
    """A log that is being written: in a store nobody can choose when an object was stored."""
    forge = Forge()
    at = now - timedelta(minutes=3)
    plan = plan_worker(("gw-0-1", f"{at:%Y%m%dT%H%M%S}000000-aaaaaaaa"), at.replace(microsecond=0), 3, None, 2)
    segment(plan)
    for one in plan.drafts:  # two objects: before and after two minutes
        one.segment = int(one.at > plan.drafts[0].at + timedelta(seconds=90))
    forge.write_log(plan)
    return forge


def upload(store, forge: Forge, prefix: str) -> None:
    client = store.client()
    for one in forge.bucket.versions:
        client.put_object(Bucket=store.bucket, Key=f"{prefix}/{one.key}", Body=one.body)


def codes(store, prefix: str, policy, **options) -> list[str]:
    report = verify(f"s3://{store.bucket}/{prefix}", policy, **{"jobs": 1, **options})
    return sorted({one.code for one in report.findings})


def test_clean_then_tampered(store, aws, tmp_path):
    forge = a_living_log(datetime.now(UTC))
    policy = forge.policy(tmp_path / "policy.yaml")
    upload(store, forge, "clean")
    seen: list[Progress] = []
    wait_for_the_next_second()
    assert codes(store, "clean", policy, jobs=2, progress=seen.append) == []
    assert seen[-1].leaves == len(next(iter(forge.built.values())).leaves)

    client = store.client()
    key = f"clean/{forge.bucket.named('v1/events/')[0].key}"
    client.put_object(Bucket=store.bucket, Key=key, Body=b"written over")
    client.put_object(Bucket=store.bucket, Key="clean/v1/note.txt", Body=b"hello")
    wait_for_the_next_second()
    # The first version is still the evidence: nothing but the new ones is found.
    assert codes(store, "clean", policy) == ["object_unexpected", "version_extra"]
    assert codes(store, "clean", policy, without_payloads=True) == ["object_unexpected", "version_extra"]

    admin = store.client(as_admin=True)
    admin.delete_bucket_policy(Bucket=store.bucket)
    admin.delete_object(Bucket=store.bucket, Key=key)
    wait_for_the_next_second()
    assert "delete_marker" in codes(store, "clean", policy)


def test_the_export_of_a_bucket_says_the_same_as_the_bucket(store, aws, tmp_path):
    from ext_proc.evidence.export import export
    from ext_proc.evidence.s3 import S3Versions

    forge = a_living_log(datetime.now(UTC))
    policy = forge.policy(tmp_path / "policy.yaml")
    upload(store, forge, "export")
    wait_for_the_next_second()
    export(S3Versions.of_url(f"s3://{store.bucket}/export"), tmp_path / "clean", lambda _told: None)
    assert verify(str(tmp_path / "clean"), policy, jobs=1).findings == []
    assert (tmp_path / "clean" / "logs").is_dir()

    client = store.client()
    key = f"export/{forge.bucket.named('/checkpoint/')[0].key}"
    client.put_object(Bucket=store.bucket, Key=key, Body=b"written over")
    client.put_object(Bucket=store.bucket, Key="export/v1/note.txt", Body=b"hello")
    wait_for_the_next_second()
    export(S3Versions.of_url(f"s3://{store.bucket}/export"), tmp_path / "tampered", lambda _told: None)
    report = verify(str(tmp_path / "tampered"), policy, jobs=1)
    assert sorted({one.code for one in report.findings}) == codes(store, "export", policy)
    assert codes(store, "export", policy) == ["object_unexpected", "version_extra"]


def test_locks_that_are_shorter_than_the_policy_asks(store, aws, tmp_path):
    forge = a_living_log(datetime.now(UTC))
    upload(store, forge, "short")
    wait_for_the_next_second()
    policy = forge.policy(tmp_path / "policy.yaml", retention_days=RETENTION_DAYS + 10)
    assert codes(store, "short", policy) == ["lock_short"]
    assert codes(store, "short", policy, without_payloads=True) == ["lock_short"]


def test_a_bucket_without_lock(store, aws, tmp_path):
    admin = store.client(as_admin=True)
    admin.create_bucket(Bucket="plain")
    admin.put_object(Bucket="plain", Key="v1/keys/x", Body=b"x")
    wait_for_the_next_second()
    report = verify("s3://plain", Forge().policy(tmp_path / "policy.yaml"), jobs=1)
    assert {one.code for one in report.findings} == {"bucket_unlocked", "object_unexpected", "epoch_missing"}


@pytest.mark.parametrize("source", ["s3://nowhere/x", "s3://", "s3:///x"])
def test_what_cannot_be_read_is_no_finding(store, aws, tmp_path, source):
    with pytest.raises(VerifyError):
        verify(source, Forge().policy(tmp_path / "policy.yaml"), jobs=1)


def test_wrong_credentials(store, aws, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(VerifyError, match="cannot be read"):
        verify(f"s3://{store.bucket}/clean", Forge().policy(tmp_path / "policy.yaml"), jobs=1)


def wait_for_the_next_second() -> None:
    """The store tells times in whole seconds; what was written in the second of the listing is left for the next time."""
    from time import sleep

    sleep(1.1)
