"""Readers against a real S3 server that locks: one contract for it, an export of it, and the fake; then each command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.demo.seaweed import Seaweed, start_seaweed
from ext_proc.evidence.directory import ExportedVersions
from ext_proc.evidence.export import export
from ext_proc.evidence.prove import prove, prove_receipt
from ext_proc.evidence.query import query
from ext_proc.evidence.records import Filter, filtered
from ext_proc.evidence.s3 import S3Versions
from ext_proc.evidence.show import find, open_payloads
from ext_proc.evidence.versions import EvidenceError, fetch, firsts
from ext_proc.verify import verify
from tests.fakes import forge as forging
from tests.fakes.recorded import ANSWER, GATEWAY, MASKED, NOON, QUESTION, FakeJournal, Recorded
from tests.fakes.versions import FakeVersions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ext_proc.evidence.versions import VersionedStore

KINDS = ("fake", "seaweed", "seaweed below a prefix", "export")
DAYS = 2


def quiet(_):
    pass


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory) -> Iterator[Seaweed]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", retention_days=DAYS)
    yield server
    server.program.stop()


@dataclass
class Made:
    """A store, and how to put versions into it (``None``: a delete marker) before it is opened."""

    open: Callable[[], VersionedStore]
    put: Callable[[str, bytes | None], None]


@pytest.fixture(params=KINDS)
def made(request, seaweed, tmp_path) -> Made:
    if request.param == "fake":
        fake = FakeVersions()
        return Made(lambda: fake, fake.put)
    prefix = "team/a/" if "prefix" in request.param else ""
    client = seaweed.client(as_admin=True)
    name = "contract-" + request.node.name.lower().translate(str.maketrans("_[]", "---", " "))[-40:].strip("-")
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    rule = {"DefaultRetention": {"Mode": "COMPLIANCE", "Days": DAYS}}
    client.put_object_lock_configuration(
        Bucket=name, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )

    def put(key: str, body: bytes | None) -> None:
        if body is None:
            client.delete_object(Bucket=name, Key=prefix + key)
        else:
            client.put_object(Bucket=name, Key=prefix + key, Body=body)

    credentials = tmp_path / "credentials"
    credentials.write_text(
        f"[default]\naws_access_key_id={seaweed.admin_access_key}\naws_secret_access_key={seaweed.admin_secret_key}\n"
    )
    bucket = S3Versions(name, prefix, seaweed.region, seaweed.endpoint, credentials)

    def exported() -> VersionedStore:
        wait_past(bucket)
        export(bucket, tmp_path / "copy", quiet)
        return ExportedVersions(tmp_path / "copy")

    return Made(exported if request.param == "export" else lambda: bucket, put)


def wait_past(store: S3Versions) -> None:
    """Until the store's own clock (whole seconds) is past everything that is in it."""
    newest = max((one.last_modified for one in store.versions("")), default=NOON)
    while store.bucket().at < newest:
        pass


def test_versions_come_by_key_and_oldest_first(made):
    for key, body in (("v1/b", b"1"), ("v1/a", b"1"), ("v1/b", b"2"), ("v1/b", None), ("v1/c/d", b"1"), ("v2", b"1")):
        made.put(key, body)
    store = made.open()
    found = list(store.versions("v1/"))
    assert [one.key for one in found] == ["v1/a", "v1/b", "v1/b", "v1/b", "v1/c/d"]
    of_b = found[1:4]
    assert [one.is_latest for one in of_b] == [False, False, True]
    assert [one.is_delete_marker for one in of_b] == [False, False, True]
    assert [fetch(store, one) for one in of_b[:2]] == [b"1", b"2"]
    assert [one.size_bytes for one in of_b[:2]] == [1, 1]
    assert all(one.last_modified.tzinfo == UTC for one in found)
    assert [one.key for one in firsts(store, "")] == ["v1/a", "v1/b", "v1/c/d", "v2"]
    assert fetch(store, next(firsts(store, "v1/b"))) == b"1", "what lies under a delete marker is still the evidence"


def test_listing_begins_after_what_is_named(made):
    for key in ("v1/e/dt=1/hour=09/x", "v1/e/dt=1/hour=10/x", "v1/e/dt=1/hour=11/x", "v1/f"):
        made.put(key, b"x")
    store = made.open()
    assert [one.key for one in store.versions("v1/e/", "v1/e/dt=1/hour=10")] == [
        "v1/e/dt=1/hour=10/x",
        "v1/e/dt=1/hour=11/x",
    ]
    assert [one.key for one in store.versions("v1/e/", "v1/e/dt=1/hour=10/x")] == ["v1/e/dt=1/hour=11/x"]
    assert list(store.versions("v1/e/", "v1/e/dt=2")) == []
    assert list(store.versions("v9")) == []


def test_a_download_tells_the_lock(made):
    made.put("v1/a", b"bytes" * 1000)
    store = made.open()
    (version,) = store.versions("")
    into = BytesIO()
    lock = store.download(version, into)
    assert into.getvalue() == b"bytes" * 1000
    assert lock.mode == "COMPLIANCE"
    assert lock.retain_until is not None
    assert lock.retain_until - version.last_modified >= timedelta(days=DAYS) - timedelta(minutes=1)
    assert lock.is_held is False
    facts = store.bucket()
    assert (facts.versioning, facts.is_lockable, facts.lock_mode) == ("Enabled", True, "COMPLIANCE")
    assert facts.lock_days
    assert facts.at.tzinfo == UTC


def test_a_version_that_is_not_there(made):
    made.put("v1/a", b"x")
    made.put("v1/a", None)
    store = made.open()
    version, marker = store.versions("")
    with pytest.raises(EvidenceError):
        fetch(store, marker)
    assert fetch(store, version) == b"x"


def test_versions_of_one_key_on_two_pages_stay_together(seaweed, tmp_path):
    client = seaweed.client()
    for number in range(340):
        for body in (b"1", b"2", b"3"):
            client.put_object(Bucket=seaweed.bucket, Key=f"pages/{number:04d}", Body=body)
    store = S3Versions(seaweed.bucket, "pages/", seaweed.region, seaweed.endpoint, credentials_of(seaweed, tmp_path))
    found = list(store.versions(""))
    assert [one.key for one in found] == [f"{number:04d}" for number in range(340) for _ in range(3)]
    assert [one.is_latest for one in found] == [False, False, True] * 340


def credentials_of(server: Seaweed, folder: Path, *, as_auditor: bool = False) -> Path:
    """The gateway's own, or those of somebody who may also read the bucket's settings."""
    access, secret = server.access_key, server.secret_key
    if as_auditor:
        access, secret = server.admin_access_key, server.admin_secret_key
    path = folder / f"credentials-{as_auditor}"
    path.write_text(f"[default]\naws_access_key_id={access}\naws_secret_access_key={secret}\n")
    return path


# What is wrong with a bucket, in words --------------------------------------------------------------------------------


def test_a_bucket_that_cannot_be_read_says_what_to_do(seaweed, tmp_path, monkeypatch):
    good = credentials_of(seaweed, tmp_path)
    with pytest.raises(EvidenceError, match=r"s3://nowhere cannot be read: .*s3:ListBucketVersions"):
        export(S3Versions("nowhere", "", seaweed.region, seaweed.endpoint, good), tmp_path / "copy", quiet)
    assert not (tmp_path / "copy").exists()
    bad = tmp_path / "bad"
    bad.write_text("[default]\naws_access_key_id=x\naws_secret_access_key=y\n")
    with pytest.raises(EvidenceError, match="InvalidAccessKeyId"):
        list(S3Versions(seaweed.bucket, "", seaweed.region, seaweed.endpoint, bad).versions(""))
    with pytest.raises(EvidenceError, match="not an AWS credentials file"):
        S3Versions(seaweed.bucket, "", seaweed.region, seaweed.endpoint, tmp_path / "none")
    with pytest.raises(EvidenceError, match="cannot be read"):
        S3Versions(seaweed.bucket, "", None, "not a url", good)
    for url in ("evidence", "s3://", "http://x/y"):
        with pytest.raises(EvidenceError, match="name a bucket"):
            S3Versions.of_url(url)


def test_the_usual_variables_are_enough(seaweed, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials_of(seaweed, tmp_path, as_auditor=True)))
    monkeypatch.setenv("AWS_ENDPOINT_URL", seaweed.endpoint)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for url in (f"s3://{seaweed.bucket}", f"s3://{seaweed.bucket}/a/prefix/"):
        assert S3Versions.of_url(url).bucket().is_lockable
    assert S3Versions.of_url("s3://b/a/prefix/").name == "s3://b/a/prefix"


# The commands, from end to end ----------------------------------------------------------------------------------------


@dataclass
class World:
    recorded: Recorded
    store: S3Versions
    policy: Path
    receipt: str
    folder: Path


@pytest.fixture(scope="module")
def world(seaweed, tmp_path_factory) -> World:
    """A gateway's evidence of two hours below a prefix of the locked bucket."""
    folder = tmp_path_factory.mktemp("world")
    recorded = Recorded.at(folder)
    log = recorded.log()
    for number in range(600):
        log.exchange(f"e{number}", NOON + timedelta(seconds=number * 10))
        if number % 200 == 199:
            log.seal()
    log.add("log.close", NOON + timedelta(hours=2), {"leaves": len(log.leaves) + 1})
    log.seal()
    client = seaweed.client()
    for key, body, _ in recorded.store.puts:
        client.put_object(Bucket=seaweed.bucket, Key=f"world/{key}", Body=body, IfNoneMatch="*")
    store = S3Versions(
        seaweed.bucket, "world/", seaweed.region, seaweed.endpoint, credentials_of(seaweed, folder, as_auditor=True)
    )
    policy = folder / "policy.yaml"
    key = forging.base64.b64encode(recorded.signer.public_key).decode()
    told: dict[str, Any] = {
        "schema": "affidavit/policy/v1", "gateway": GATEWAY, "log_keys": [key], "retention_days": DAYS - 1,
        "heartbeat_seconds": 3600,
    }  # fmt: skip
    policy.write_text(yaml.safe_dump(told))
    wait_past(store)
    return World(recorded, store, policy, log.receipt(402), folder)


def test_an_export_is_what_the_bucket_holds(world, tmp_path):
    report = export(world.store, tmp_path / "copy", quiet)
    assert (report.logs, report.leaves, report.problems) == (1, 1202, ())
    assert report.versions == len(world.recorded.store.puts)
    for key, body, _ in world.recorded.store.puts:
        assert (tmp_path / "copy" / "objects" / key).read_bytes() == body
    line = json.loads((tmp_path / "copy" / "inventory.jsonl").read_text().splitlines()[0])
    assert line["key"].startswith("world/v1/events/")
    assert json.loads((tmp_path / "copy" / "bucket.json").read_text())["prefix"] == "world/"
    codes = {one.code for one in verify(str(tmp_path / "copy"), world.policy, jobs=1).findings}
    # The recorder of these tests makes no digests and no heartbeats; that the rest holds is what is asked here.
    assert codes <= {"digest_missing", "heartbeat_missing", "leaf_invalid", "roster_mismatch", "epoch_unended"}, codes


def test_a_copy_answers_like_the_bucket(world, tmp_path):
    export(world.store, tmp_path / "copy", quiet)
    copy = ExportedVersions(tmp_path / "copy")
    proof = prove(copy, "e200", quiet)
    assert proof == prove(world.store, "e200", quiet)
    assert prove_receipt(world.store, world.receipt, quiet)["exchange_id"] == "e200"
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    assert verify(str(tmp_path / "proof.json"), world.policy, jobs=1).findings == []
    since, until = NOON + timedelta(minutes=50), NOON + timedelta(minutes=70)
    wanted = Filter(since=since, until=until)
    rows = list(filtered(world.store, wanted))
    assert rows == list(filtered(copy, wanted))
    assert [row.exchange_id for row in rows] == [f"e{number}" for number in range(300, 421)]


def test_the_gateways_own_credentials_are_enough_to_read(world, seaweed):
    """They may not ask for the bucket's settings, and only an export needs those."""
    mine = credentials_of(seaweed, world.folder)
    store = S3Versions(seaweed.bucket, "world/", seaweed.region, seaweed.endpoint, mine)
    located = find(store, "e7", quiet)
    opened = open_payloads(store, world.recorded.keyring, FakeJournal(), located, by="audit/17", purpose="sample")
    assert [json.loads(one.body or b"") for one in opened] == [QUESTION, MASKED, ANSWER, ANSWER]


def test_sql_over_the_bucket(world, tmp_path):
    rows: list[tuple[Any, ...]] = []
    query(
        world.store,
        "SELECT date_trunc('hour', began_at) AS hour, count(*), sum(output_tokens) FROM exchanges GROUP BY 1 ORDER BY 1",
        tmp_path / "cache",
        lambda answered: rows.extend(answered.rows),
        quiet,
    )
    assert rows == [
        (datetime(2026, 11, 25, 12, tzinfo=UTC), 360, 1080),
        (datetime(2026, 11, 25, 13, tzinfo=UTC), 240, 720),
    ]
