"""A recorded decision is made again from the bucket alone; whatever is not as it was is refused, or told field by field."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from ext_proc.app.authoring import rerun
from ext_proc.app.authoring.archived_bundles import ArchivedBundles
from ext_proc.errors import AuditUnavailable
from tests.fakes.asked import POLICY, AskedGateway, build, calls
from tests.fakes.policy import opa_program
from tests.fakes.recorded import FakeJournal, LogJournal

DECISION = "inference.decision"


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture
def gateway(tmp_path):
    return AskedGateway(tmp_path)


def options(exchange=None, **more):
    told = {
        "exchange": exchange, "since": None, "until": None, "by": "audit/17", "purpose": "rerun", "json": True,
        "opa": opa_program(), **more,
    }  # fmt: skip
    return argparse.Namespace(**told)


def run(gateway, capsys, journal=None, **more):
    capsys.readouterr()
    status = rerun.run(gateway.store, options(**more), DECISION, gateway.recorded.keyring, journal or FakeJournal())
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_decision_is_made_again(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(40), sealed=15)
    gateway.archive(file)
    journal = FakeJournal()
    status, told = run(gateway, capsys, journal)
    assert status == 0
    assert [one["exchange_id"] for one in told] == [f"exchange-{n:06d}" for n in range(40)]
    assert {one["verdict"] for one in told} == {"same"}
    assert {one["kind"] for one in told} == {"inference.intent", "inference.outcome", "approval.requested"}
    assert journal.notes == [
        (
            "access.span_read",
            {"roles": ["policy.question"], "by": "audit/17", "purpose": "rerun", "since": None, "until": None},
        )
    ]


def test_one_decision_of_many(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(4))
    gateway.archive(file)
    journal = FakeJournal()
    status, [told] = run(gateway, capsys, journal, exchange="exchange-000002")
    assert (status, told["verdict"], told["digest"]) == (0, "same", version.digest)
    assert journal.notes[0][0] == "access.read"
    assert journal.notes[0][1]["exchange_id"] == "exchange-000002"
    assert run(gateway, capsys, exchange="exchange-9")[0] == 1


def test_nothing_is_read_that_is_not_on_record(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(2))
    gateway.archive(file)
    gateway.store.downloads.clear()
    journal = FakeJournal()
    journal.failure = AuditUnavailable("full")
    with pytest.raises(AuditUnavailable):
        run(gateway, capsys, journal)
    assert gateway.store.downloads == []


def test_a_byte_of_the_bundle_is_refused_by_its_digest(gateway, policy, capsys, tmp_path):
    file, version = policy
    gateway.record(file, version, calls(3))
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    (tmp_path / "changed").write_bytes(raw)
    gateway.archive(tmp_path / "changed", version.digest)
    status, told = run(gateway, capsys)
    assert status == 1
    assert {one["verdict"] for one in told} == {"no_bundle"}
    assert "it was changed" in told[0]["why"]


def test_another_policy_under_its_name_is_refused_too(gateway, policy, capsys, tmp_path):
    """It is a good bundle, and would say yes to everything."""
    file, version = policy
    gateway.record(file, version, calls(3))
    other, _ = build(tmp_path / "other", POLICY.replace("> 1000", "> 0"))
    gateway.archive(other, version.digest)
    status, told = run(gateway, capsys)
    assert (status, {one["verdict"] for one in told}) == (1, {"no_bundle"})


def test_a_later_copy_serves_where_the_first_is_gone_or_changed(gateway, policy, capsys, tmp_path):
    file, version = policy
    gateway.record(file, version, calls(2))
    changed, _ = build(tmp_path / "other", POLICY.replace("> 1000", "> 0"))
    gateway.archive(changed, version.digest)
    gateway.archive(file, f"{version.digest}.20261126T120000Z")
    status, told = run(gateway, capsys)
    assert (status, {one["verdict"] for one in told}) == (0, {"same"})


def test_what_others_put_beside_it_does_not_hide_it(gateway, policy, capsys, tmp_path):
    """Under names that come before its own, and after."""
    file, version = policy
    gateway.record(file, version, calls(1))
    gateway.archive(file, f"{version.digest}.20261126T120000Z")
    (tmp_path / "garbage").write_bytes(b"garbage")
    for number in range(70):
        gateway.archive(tmp_path / "garbage", f"{version.digest}.{number:08}T000000Z")
    status, told = run(gateway, capsys)
    assert (status, told[0]["verdict"]) == (0, "same")


def test_a_bundle_that_was_never_archived(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(1))
    status, [told] = run(gateway, capsys)
    assert (status, told["verdict"]) == (1, "no_bundle")
    assert "not in the bucket" in told["why"]


def test_a_different_answer_is_told_field_by_field(gateway, policy, capsys, tmp_path):
    """What decided was another bundle than the one that the record names: its revision was forged into it."""
    _, version = policy
    other, forged = build(tmp_path / "other", POLICY.replace("> 1000", "> 5").replace('"mask"}]', '"hash"}]', 1))
    gateway.record(policy[0], forged, calls(2))
    gateway.archive(other)
    del version
    status, told = run(gateway, capsys)
    assert status == 1
    first, second = told
    assert {one["field"]: (one["before"], one["now"]) for one in first["fields"]} == {
        "allow": (True, False),
        "reasons": ([], ["too_large"]),
        "redact.request": ([{"entity": "*", "action": "mask"}], [{"entity": "*", "action": "hash"}]),
    }
    assert second["verdict"] == "different"


def test_an_answer_that_contradicts_its_record(gateway, policy, capsys):
    file, version = policy
    gateway.record(
        file,
        version,
        calls(2),
        changes=lambda _, said: {**said, "allow": False},
    )
    gateway.archive(file)
    status, told = run(gateway, capsys)
    assert status == 1
    assert [one["verdict"] for one in told] == ["contradictory", "same"]  # the second was denied
    assert told[0]["fields"] == [{"field": "allow", "before": True, "now": False}]


@pytest.mark.parametrize(
    ("is_on_record", "verdict", "why", "expected"),
    [(True, "erased", "shredded", 0), (False, "unreadable", "damaged: unexplained", 1)],
)
def test_an_erased_question_is_no_answer(gateway, policy, capsys, is_on_record, verdict, why, expected):
    """It is nobody's fault where the log says that it was erased; a key that is gone without that is."""
    from ext_proc.app.process import clock
    from ext_proc.audit import erasure
    from ext_proc.audit.erasure import Order
    from tests.fakes.asked import ADA

    file, version = policy
    gateway.record(file, version, calls(2))
    gateway.archive(file)
    keyring = gateway.recorded.keyring
    erasure.erase(
        keyring.registry,
        keyring.subject_reference(ADA),
        order=Order("gone", "desk"),
        clock=clock,
        journal=LogJournal(gateway.recorded) if is_on_record else FakeJournal(),
        wait=lambda _: None,
    )
    status, told = run(gateway, capsys)
    assert [one["verdict"] for one in told] == [verdict, "same"]
    assert told[0]["why"].startswith(why)
    assert status == expected


def test_people_get_words(gateway, policy, capsys):
    file, version = policy
    gateway.record(file, version, calls(12))
    gateway.archive(file)
    assert rerun.run(gateway.store, options(json=False), DECISION, gateway.recorded.keyring, FakeJournal()) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "12 decisions: 12 same"


def test_bundles_are_fetched_once(gateway, policy):
    file, _ = policy
    digest = gateway.archive(file)
    with ArchivedBundles(gateway.store, opa_program(), DECISION) as bundles:
        assert bundles.asker(digest) is bundles.asker(digest)
        folder = Path(bundles._folder.name)
        assert folder.exists()
    assert gateway.store.downloads.count(f"v1/policy/{digest}.tar.gz") == 1
    assert not folder.exists()
