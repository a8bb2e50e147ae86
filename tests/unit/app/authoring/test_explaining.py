"""`policy explain EXCHANGE`: the lines of the bundle that decided, out of the bucket, or why not."""

from __future__ import annotations

import argparse
import io
import json
import tarfile

import pytest

from ext_proc.app.authoring import explaining
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.policy.bundle import unpack
from tests.fakes.asked import POLICY, AskedGateway, build, calls, write_policy
from tests.fakes.policy import opa_program
from tests.fakes.recorded import FakeJournal

DECISION = "inference.decision"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture
def gateway(tmp_path):
    return AskedGateway(tmp_path)


def explain(gateway, exchange, journal=None, **more):
    told = {
        "question": exchange, "by": "audit/17", "purpose": "explain", "json": True, "opa": opa_program(),
        "policy": None, "decision": None, **more,
    }  # fmt: skip
    keyring = gateway.recorded.keyring
    return explaining.run(gateway.store, argparse.Namespace(**told), DECISION, keyring, journal or FakeJournal())


def test_the_rules_that_decided_are_those_of_the_archived_bundle(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(4))
    gateway.archive(file)
    journal = FakeJournal()
    assert explain(gateway, "exchange-000001", journal) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["decision"]["reasons"] == ["not_permitted"]
    fired = [rule["text"] for rule in told["rules"]]
    assert 'reasons contains "not_permitted" if not "analysts" in input.identity.groups' in fired
    assert told["differs_in"] == []
    assert (told["record"]["kind"], told["record"]["digest"]) == ("inference.outcome", version.digest)
    [(kind, noted)] = journal.notes
    assert (kind, noted["exchange_id"], noted["purpose"]) == ("access.read", "exchange-000001", "explain")
    assert explain(gateway, "exchange-000000") == 0


def test_people_get_the_record_and_the_lines(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(2))
    gateway.archive(file)
    assert explain(gateway, "exchange-000001", json=False) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("inference.outcome of 2026-11-25T12:00:01")
    assert lines[1:4] == [
        f"policy {version.revision} ({version.digest[:16]})",
        "as on record:",
        "denied: not_permitted",
    ]
    assert "inference/decision.rego" in lines
    assert any(line.startswith(">") and "not_permitted" in line for line in lines)


def test_other_sources_are_asked_the_recorded_question(gateway, policy, capsys, tmp_path):
    file, version = policy
    gateway.record(file, version, calls(1))
    other = write_policy(tmp_path / "other", POLICY.replace("> 1000", "> 5"))
    assert explain(gateway, "exchange-000000", policy=other) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["recorded"]["allow"], told["decision"]["allow"]) == (True, False)
    assert told["differs_in"] == ["allow", "reasons"]
    assert explain(gateway, "exchange-000000", policy=other, json=False) == 1
    assert "on record is another answer: allow, reasons differ" in capsys.readouterr().out


def test_what_cannot_be_explained_says_why(gateway, policy, tmp_path):
    file, version = policy
    gateway.record(file, version, calls(2), changes=lambda number, answer: {**answer, "allow": False})
    with pytest.raises(ConfigError, match="no decision is on record"):
        explain(gateway, "exchange-9")
    with pytest.raises(ConfigError, match="not in the bucket"):
        explain(gateway, "exchange-000000")
    changed, _ = build(tmp_path / "other", POLICY.replace("> 1000", "> 0"))
    gateway.archive(changed, version.digest)
    with pytest.raises(ConfigError, match="it was changed"):
        explain(gateway, "exchange-000000")


def test_an_answer_that_contradicts_its_record_is_said(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(1), changes=lambda number, answer: {**answer, "allow": False})
    gateway.archive(file)
    explain(gateway, "exchange-000000")
    assert json.loads(capsys.readouterr().out)["differs_in"] == ["allow"]


def test_nothing_is_read_that_is_not_on_record(gateway, policy):
    file, version = policy
    gateway.record(file, version, calls(1))
    gateway.store.downloads.clear()
    journal = FakeJournal()
    journal.failure = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        explain(gateway, "exchange-000000", journal)
    assert [key for key in gateway.store.downloads if not key.startswith("v1/events/")] == []


def test_an_id_under_which_there_is_nothing_leaves_no_record(gateway, policy):
    """It would be found from then on: an exchange that never was."""
    file, version = policy
    gateway.record(file, version, calls(1))
    journal = FakeJournal()
    with pytest.raises(ConfigError, match="no decision is on record"):
        explain(gateway, "3f6f9f8c-8f0b-4b1e-9a56-0c8f4e6b7a10", journal)
    assert journal.notes == []


def test_a_bundle_that_asks_the_network_is_not_asked(gateway, policy, tmp_path):
    """Whoever signs bundles elsewhere may have let it pass; the machine of an auditor does not."""
    file, version = policy
    gateway.record(file, version, calls(1))
    calling = (
        POLICY
        + '\nreasons contains "told" if http.send({"method": "get", "url": "http://127.0.0.1:1"}).status_code == 1\n'
    )
    other = write_policy(tmp_path / "other", calling)
    with pytest.raises(ConfigError, match=r"http\.send"):
        explain(gateway, "exchange-000000", policy=other)


def _packed(*members):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content)
            member.linkname = "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


@pytest.mark.parametrize(
    "raw",
    [
        _packed(("/../../out.rego", tarfile.REGTYPE, b"package x")),
        _packed(("/a/../../out.rego", tarfile.REGTYPE, b"package x")),
        _packed(("/a.rego", tarfile.SYMTYPE, b"")),
        _packed(("/a.rego", tarfile.LNKTYPE, b"")),
        _packed(("/a.rego", tarfile.FIFOTYPE, b"")),
        _packed(("/a.rego", tarfile.REGTYPE, b"package x"), ("a.rego", tarfile.REGTYPE, b"package y")),
        b"no archive",
    ],
)
def test_an_archive_that_no_opa_makes_is_not_unpacked(raw, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    with pytest.raises(ConfigError, match=r"not a policy bundle|no `opa build` makes"):
        unpack(raw, folder)
    assert {path.name for path in tmp_path.rglob("*")} <= {"in", "a.rego", "a"}


def test_sources_are_unpacked_and_signatures_are_not(tmp_path):
    files = [("/a/b.rego", b"package x"), ("/data.json", b"{}"), ("/.manifest", b"{}"), ("/.signatures.json", b"{}")]
    unpack(_packed(*((name, tarfile.REGTYPE, content) for name, content in files)), tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")} == {
        "a",
        "a/b.rego",
        "data.json",
        ".manifest",
    }
