"""``affidavit reconcile`` and ``affidavit rollup`` against a real S3 server that locks; nothing else runs."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc import cli
from ext_proc.app import registry
from ext_proc.app.evidence import completeness
from ext_proc.app.evidence.completeness import span_of
from ext_proc.app.serving.daily import Daily, run_command
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit import frames
from ext_proc.audit.keys import KeyRing, create_key_files
from ext_proc.audit.signer import LocalSigner
from ext_proc.config import load
from ext_proc.demo import servers
from ext_proc.demo.seaweed import Seaweed, start_seaweed
from ext_proc.evidence.envoy_lines import read_line
from ext_proc.evidence.statement import note_of_day
from ext_proc.evidence.versions import EvidenceError
from tests.fakes.envoy_log import AccessLog, line, refused
from tests.fakes.recorded import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAYS = 2
NOW = datetime.now(UTC)
YESTERDAY = (NOW - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
DAY = f"{YESTERDAY:%Y-%m-%d}"


@pytest.fixture(autouse=True)
def _the_day_of_the_test(monkeypatch) -> None:
    """All tests take half an hour: where they go over midnight, this module was read on the day before."""
    now = datetime.now(UTC)
    yesterday = (now - timedelta(days=1)).replace(hour=12, minute=0, second=0, microsecond=0)
    for name, value in (("NOW", now), ("YESTERDAY", yesterday), ("DAY", f"{yesterday:%Y-%m-%d}")):
        monkeypatch.setattr(sys.modules[__name__], name, value)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory) -> Iterator[Seaweed]:
    folder = tmp_path_factory.mktemp("seaweed")
    server = start_seaweed(folder, folder / "logs", retention_days=DAYS)
    yield server
    server.program.stop()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("bundle") / "bundle.tar.gz"
    servers.build_bundle(path)
    return path


@dataclass
class Desk:
    """A gateway's folder and its part of the bucket."""

    folder: Path
    seaweed: Seaweed
    prefix: str
    recorded: Recorded

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    def fill(self) -> None:
        """Put what was recorded into the real bucket."""
        client = self.seaweed.client()
        for key, body, _ in self.recorded.store.puts:
            client.put_object(Bucket=self.seaweed.bucket, Key=self.prefix + key, Body=body)
        self.recorded.store.puts.clear()

    def run(self, capsys, *arguments: str) -> tuple[int, str, str]:
        status = cli.main([*arguments, "--config", str(self.config)])
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return status, said.out, said.err

    def json(self, capsys, *arguments: str) -> tuple[int, dict[str, Any]]:
        status, out, err = self.run(capsys, *arguments, "--json")
        assert out, err
        return status, json.loads(out)

    def leaves(self, kind: str) -> list[dict[str, Any]]:
        """What the commands put on record; it lies on the disk, since no shipper runs."""
        found = []
        for path in sorted((self.folder / "state" / "evidence").glob("*/*.*")):
            if path.suffix in (".wal", ".sealed"):
                found += [json.loads(one.leaf) for one in frames.scan(path.read_bytes()).frames if one.leaf]
        return [leaf for leaf in found if leaf["kind"] == kind]

    def keys(self, room: str) -> list[str]:
        client = self.seaweed.client()
        told = client.list_objects_v2(Bucket=self.seaweed.bucket, Prefix=f"{self.prefix}v1/{room}/")
        return [one["Key"].removeprefix(self.prefix) for one in told.get("Contents", ())]


@pytest.fixture
def desk(tmp_path, seaweed, bundle, request) -> Desk:
    keys = tmp_path / "keys"
    keys.mkdir(mode=0o700)
    create_key_files(keys, "key-encryption-key", "pepper", "hash-key", "log-key", "receipt-key")
    credentials = keys / "s3"
    credentials.touch(0o600)
    credentials.write_text(
        f"[default]\naws_access_key_id={seaweed.access_key}\naws_secret_access_key={seaweed.secret_key}\n"
    )
    prefix = f"{abs(hash(request.node.name)):x}/"
    (tmp_path / "state").mkdir()
    told = {
        "run_dir": str(tmp_path / "run"),
        "state_dir": str(tmp_path / "state"),
        "identity": {"issuers": [{"issuer": "http://127.0.0.1:9", "audiences": ["affidavit"]}]},
        "policy": {"opa_socket": str(tmp_path / "opa.sock"), "bundle_file": str(bundle)},
        "redaction": {"hash_key_file": str(keys / "hash-key")},
        "audit": {
            "origin": "demo.example/affidavit",
            "replica": "gw-0",
            "key_encryption_key_file": str(keys / "key-encryption-key"),
            "pepper_file": str(keys / "pepper"),
            "signing": {"file": str(keys / "log-key")},
            "receipt_key_file": str(keys / "receipt-key"),
            "s3": {
                "bucket": seaweed.bucket,
                "prefix": prefix,
                "region": seaweed.region,
                "endpoint": seaweed.endpoint,
                "credentials_file": str(credentials),
                "retention_days": DAYS,
            },
        },
        "connections": [{"name": "model", "path_prefix": "/v1/", "upstream": {"url": "http://127.0.0.1:9"}}],
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(told))
    names = keys / "key-encryption-key", keys / "pepper"
    return Desk(tmp_path, seaweed, prefix, _recorded(tmp_path, names))


def _recorded(folder: Path, names: tuple[Path, Path]) -> Recorded:
    made = Recorded(KeyRing.from_files(*names, folder / "registry.sqlite"))
    made.signer = LocalSigner.from_file(folder / "keys" / "log-key")  # type: ignore[assignment]
    return made


def a_day(desk: Desk, *more: dict[str, Any]) -> None:
    """Yesterday: two calls, and what else Envoy wrote."""
    log = desk.recorded.log(at=YESTERDAY)
    for number, name in enumerate(("one", "two")):
        log.exchange(name, YESTERDAY + timedelta(seconds=number))
    log.add("log.close", YESTERDAY + timedelta(minutes=5), {"leaves": 6})
    log.seal()
    lines = [line(name, YESTERDAY + timedelta(seconds=number)) for number, name in enumerate(("one", "two"))]
    AccessLog(desk.recorded.store).ship(*lines, *more, at=YESTERDAY)
    desk.fill()


# Reconcile ------------------------------------------------------------------------------------------------------------


def test_a_whole_day_ends_in_a_locked_statement_and_a_record(desk, capsys):
    a_day(desk, refused(YESTERDAY))
    status, told = desk.json(capsys, "reconcile", "--day", DAY)
    assert status == 0
    assert told["ok"] is True
    assert (told["envoy"], told["audited"], told["orphans"], told["incidents"]) == (3, 3, 0, 0)
    assert desk.keys("reconcile") == [told["key"]]
    head = desk.seaweed.client().head_object(Bucket=desk.seaweed.bucket, Key=desk.prefix + told["key"])
    assert head["ObjectLockMode"] == "COMPLIANCE"
    [result] = desk.leaves("reconcile.result")
    assert result["statement_sha256"] == told["sha256"]
    assert (result["day"], result["envoy"], result["audited"], result["orphans"]) == (DAY, 3, 3, 0)
    assert not list((desk.folder / "state").glob("completeness-pending*"))


def test_what_envoy_refused_is_on_record_once_though_nothing_was_shipped_in_between(desk, capsys):
    a_day(desk, refused(YESTERDAY), refused(YESTERDAY + timedelta(seconds=1), "low_version"))
    for _ in range(3):
        status, told = desk.json(capsys, "reconcile", "--day", DAY)
        assert (status, told["audited"]) == (0, 4)
    noted = desk.leaves("inference.refused_by_envoy")
    assert Counter(one["details"] for one in noted) == {"http1.codec_error": 1, "low_version": 1}
    assert len(desk.leaves("reconcile.result")) == 3


def test_an_orphan_is_exit_status_1_and_said(desk, capsys):
    a_day(desk, line("hidden", YESTERDAY))
    status, out, _ = desk.run(capsys, "reconcile", "--day", DAY)
    assert status == 1
    assert "record_missing  hidden" in out
    assert "✗ envoy=3 audited=2 orphans=1 gaps=1" in out


def test_a_statement_that_was_stored_and_not_recorded_is_recorded_by_the_next_run(desk, capsys):
    a_day(desk)
    config, _ = load(desk.config)
    fields = {"day": DAY, "envoy": 1, "audited": 1, "orphans": 0, "gaps": [], "statement_sha256": ""}
    left = note_of_day("reconcile", DAY, b"what a run that was killed had put\n")
    never = note_of_day("reconcile", DAY, b"what never got there\n")
    for made, is_stored in ((left, True), (never, False)):
        if is_stored:
            desk.seaweed.client().put_object(Bucket=desk.seaweed.bucket, Key=desk.prefix + made.key, Body=made.body)
        pending = {"key": made.key, "sha256": made.sha256, "kind": "reconcile.result"}
        (config.state_dir / "completeness-pending.json").write_text(
            json.dumps({**pending, "fields": {**fields, "statement_sha256": made.sha256}})
        )
        assert desk.json(capsys, "reconcile", "--day", DAY)[0] == 0
    told = [one["statement_sha256"] for one in desk.leaves("reconcile.result")]
    assert left.sha256 in told
    assert never.sha256 not in told
    assert len(told) == 3


def test_a_run_that_cannot_record_leaves_word_for_the_next(desk, capsys, monkeypatch):
    a_day(desk)

    class Dying(completeness._Recording):
        def note(self, kind, fields):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(completeness, "_Recording", Dying)
        assert desk.run(capsys, "reconcile", "--day", DAY)[0] == 130
    [key] = desk.keys("reconcile")
    assert desk.leaves("reconcile.result") == []
    assert desk.run(capsys, "reconcile", "--day", DAY)[0] == 0
    told = {one["statement_sha256"][:16] for one in desk.leaves("reconcile.result")}
    assert key.rpartition("/")[2].partition(".")[0] in told
    assert len(told) == len(desk.keys("reconcile")) == 2


def test_word_that_is_damaged_is_said(desk, capsys):
    (desk.folder / "state" / "completeness-pending.json").write_text("nonsense")
    status, _, err = desk.run(capsys, "reconcile")
    assert status == 2
    assert "completeness-pending.json: damaged" in err


def test_two_at_once_would_not_see_each_others_records(desk, capsys):
    descriptor = os.open(desk.folder / "state" / "completeness.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        status, _, err = desk.run(capsys, "rollup", "--so-far")
    finally:
        os.close(descriptor)
    assert status == 2
    assert "runs; wait for it" in err


def test_a_store_that_does_not_answer_is_said(desk, capsys):
    told = yaml.safe_load(desk.config.read_text())
    told["audit"]["s3"]["endpoint"] = "http://127.0.0.1:9"
    desk.config.write_text(yaml.safe_dump(told))
    for command in (("reconcile",), ("rollup",)):
        status, out, err = desk.run(capsys, *command)
        assert (status, out) == (2, "")
        assert "cannot be read" in err


def test_a_store_that_locks_too_short_is_said(desk, capsys):
    a_day(desk)
    told = yaml.safe_load(desk.config.read_text())
    told["audit"]["s3"]["retention_days"] = DAYS + 2
    desk.config.write_text(yaml.safe_dump(told))
    status, _, err = desk.run(capsys, "reconcile", "--day", DAY)
    assert status == 2
    assert "retention_days" in err


@pytest.mark.parametrize(
    ("day", "since", "until"),
    [
        ("yesterday", None, None),
        ("2026-02-30", None, None),
        ("2100-01-01", None, None),
        ("2026-11-24", "2h", None),
        (None, None, "2h"),
        (None, "nonsense", None),
        (None, "1h", "2h"),
    ],
)
def test_a_time_that_is_none_is_said(day, since, until):
    with pytest.raises(EvidenceError):
        span_of(day, since, until, datetime(2026, 11, 25, 12, tzinfo=UTC))


def test_a_day_that_is_not_over_ends_now():
    at = datetime(2026, 11, 25, 12, tzinfo=UTC)
    made = span_of(None, None, None, at)
    assert (made.since, made.until) == (at.replace(hour=0), at)
    made = span_of("2026-11-24", None, None, at)
    assert made.until - made.since == timedelta(days=1)


def test_a_request_that_began_in_the_very_millisecond_is_counted_once():
    """Envoy's log cuts off what is finer; a request must lie in exactly one of two spans that join."""
    join = datetime(2026, 11, 25, 10, 0, 0, 123_456, tzinfo=UTC)
    now = join + timedelta(hours=1)
    before = span_of(None, (join - timedelta(hours=1)).isoformat(), join.isoformat(), now)
    after = span_of(None, join.isoformat(), now.isoformat(), now)
    for late_micros in (0, 1, 543):
        written = json.dumps(line("one", join + timedelta(microseconds=late_micros))).encode()
        began = read_line(written, "gw-0", "g", 0)
        assert began is not None
        assert (before.holds(began.began_at), after.holds(began.began_at)) == (False, True)


# Roll-up --------------------------------------------------------------------------------------------------------------


def test_a_roll_up_is_made_once(desk, capsys):
    a_day(desk)
    status, told = desk.json(capsys, "rollup")
    assert (status, told["day"], told["is_new"], len(told["epochs"])) == (0, DAY, True, 1)
    assert desk.keys("rollup") == [told["key"]]
    [leaf] = desk.leaves("rollup.made")
    assert (leaf["day"], leaf["key"]) == (DAY, told["key"])
    status, again = desk.json(capsys, "rollup", "--day", DAY)
    assert (status, again["is_new"], again["key"]) == (0, False, told["key"])
    assert len(desk.leaves("rollup.made")) == 1
    assert "(was there already)" in desk.run(capsys, "rollup")[1]


def test_a_day_that_is_not_over_is_only_shown(desk, capsys):
    log = desk.recorded.log(at=NOW)
    log.seal()
    desk.fill()
    today = f"{NOW:%Y-%m-%d}"
    status, _, err = desk.run(capsys, "rollup", "--day", today)
    assert status == 2
    assert "--so-far" in err
    status, told = desk.json(capsys, "rollup", "--day", today, "--so-far")
    assert (status, told["key"], len(told["epochs"])) == (0, None, 1)
    assert desk.keys("rollup") == []
    assert not registry.evidence_directory(load(desk.config)[0]).exists(), "nothing was recorded"


def test_a_day_without_records_has_no_roll_up(desk, capsys):
    status, _, err = desk.run(capsys, "rollup", "--day", "2020-01-01")
    assert status == 2
    assert "no log with a record" in err


# By itself ------------------------------------------------------------------------------------------------------------


async def test_the_day_that_is_over_is_done_by_itself_and_by_one_replica(desk):
    a_day(desk)
    config, _ = load(desk.config)
    (config.run_dir / "state").mkdir(parents=True)
    at = YESTERDAY.replace(hour=0) + timedelta(days=1, hours=4)
    run = partial(run_command, desk.config, asyncio.Event())
    key = registry.log_signer(config).public_key
    for _ in range(2):  # as two replicas would, one after the other
        await Daily(config, store_of(config), key, lambda: at, run).look()
        [statement], [roll_up] = desk.keys("reconcile"), desk.keys("rollup")
        assert f"/dt={DAY}/" in statement
        assert f"/dt={DAY}/" in roll_up
    assert [leaf["day"] for leaf in desk.leaves("reconcile.result")] == [DAY]
    told = json.loads((config.run_dir / "state" / "daily.json").read_text())
    assert told["failures"] == []
