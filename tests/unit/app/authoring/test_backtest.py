"""A candidate against what was recorded: exactly what was planted is found, whatever else is in the bucket."""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import replace

import pytest

from ext_proc.app.authoring import backtest
from ext_proc.errors import ConfigError
from tests.fakes.asked import POLICY, AskedGateway, build, calls, write_policy
from tests.fakes.policy import opa_program
from tests.fakes.recorded import FakeJournal

DECISION = "inference.decision"
COUNT = 10_000
"""As many as the issue asks for: no fewer than this shows that a lot's end loses or doubles one."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build(tmp_path_factory.mktemp("policy") / "policy")


@pytest.fixture(scope="module")
def many(policy, tmp_path_factory):
    gateway = AskedGateway(tmp_path_factory.mktemp("many"))
    gateway.record(*policy, calls(COUNT), sealed=1500)
    return gateway


@pytest.fixture
def few(policy, tmp_path):
    gateway = AskedGateway(tmp_path)
    gateway.record(*policy, calls(40))
    return gateway


def run(gateway, capsys, candidate, journal=None, **more):
    told = {
        "bundle": candidate, "since": None, "until": None, "by": "authors", "purpose": "backtest", "json": True,
        "opa": opa_program(), "html": None, **more,
    }  # fmt: skip
    capsys.readouterr()
    status = backtest.run(
        gateway.store, argparse.Namespace(**told), DECISION, gateway.recorded.keyring, journal or FakeJournal(),
        "https://console.example",
    )  # fmt: skip
    return status, capsys.readouterr().out


def numbers(told, effect):
    return [int(one["exchange_id"][-6:]) for one in told["changed"] if effect in one["effects"]]


def test_ten_thousand_and_exactly_what_was_planted(many, capsys, tmp_path):
    """Planted: guests may (one in ten), one person of fifty may not."""
    planted = POLICY.replace('not "analysts" in input.identity.groups', 'input.identity.subject == "person-7"')
    status, out = run(many, capsys, write_policy(tmp_path / "candidate", planted))
    told = json.loads(out)
    guests = [n for n in range(COUNT) if n % 10 == 1]
    person = [n for n in range(COUNT) if n % 50 == 7]
    assert (status, told["decisions"], told["unread"]) == (1, COUNT, {})
    assert sorted(numbers(told, "newly_allowed")) == guests
    assert sorted(numbers(told, "newly_denied")) == person
    assert told["changed_count"] == len(told["changed"]) == len(guests) + len(person)
    assert {name: count for name, count in told["counts"].items() if count} == {
        "newly_allowed": len(guests), "newly_denied": len(person),
    }  # fmt: skip


def test_the_same_policy_differs_nowhere(many, policy, capsys):
    status, out = run(many, capsys, policy[0])
    assert (status, json.loads(out)["decisions"], json.loads(out)["changed_count"]) == (0, COUNT, 0)


PLANTED = {
    "held": (('== "restricted"', '== "demo"'), {"newly_held": 28, "no_longer_held": 4}),
    "unmasked": (('"request": [{"entity": "*", "action": "mask"}]', '"request": []'), {"newly_unmasked": 32, "otherwise": 8}),
    "undefined": (('"record": {"payloads": true}', '"record": {"payloads": input.findings.EMAIL < 2}'), {"otherwise": 13}),
    "no decision": (('"allow": count(reasons) == 0', '"allow": "yes"'), {"no_decision": 40}),
    "an error": (
        ('"record": {"payloads": true}', '"record": {"payloads": time.parse_rfc3339_ns(input.identity.subject) > 0}'),
        {"no_decision": 40},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("change", "expected"), PLANTED.values(), ids=PLANTED)
def test_each_kind_of_change(few, capsys, tmp_path, change, expected):
    status, out = run(few, capsys, write_policy(tmp_path / "candidate", POLICY.replace(*change)))
    assert status == 1
    assert {name: count for name, count in json.loads(out)["counts"].items() if count} == expected


def test_it_is_on_record_first_and_of_its_span_only(few, policy, capsys):
    journal = FakeJournal()
    _, out = run(few, capsys, policy[0], journal, since="2026-11-25T12:00:10", until="2026-11-25T12:00:19")
    assert json.loads(out)["decisions"] == 10
    [(kind, fields)] = journal.notes
    assert (kind, fields["since"], fields["until"]) == (
        "access.span_read", "2026-11-25T12:00:10.000000Z", "2026-11-25T12:00:19.000000Z",
    )  # fmt: skip


def test_a_candidate_that_asks_the_network_is_refused(few, capsys, tmp_path):
    rule = (
        POLICY
        + '\nreasons contains "x" if http.send({"method": "get", "url": "http://127.0.0.1:9"}).status_code == 200\n'
    )
    journal = FakeJournal()
    with pytest.raises(ConfigError, match="function http"):
        run(few, capsys, write_policy(tmp_path / "candidate", rule), journal)
    assert journal.notes == [], "nothing was read"


def test_a_page_for_people(few, capsys, tmp_path):
    file = tmp_path / "page.html"
    candidate = write_policy(tmp_path / "candidate", POLICY.replace("> 1000", "> 5"))
    status, out = run(few, capsys, candidate, html=file, json=False)
    text = file.read_text()
    assert status == 1
    assert "40 decisions, " in out
    assert 'id="newly_denied"' in text
    assert '<a href="https://console.example/exchanges/exchange-000000">' in text
    assert "person-" not in text, "nobody's name"
    assert not re.search(r"<script|<img|<link|https?://(?!console\.example/)", text), "it needs nothing else"


def test_the_page_is_safe_whatever_the_records_say(policy, capsys, tmp_path):
    (tmp_path / "g").mkdir()
    gateway = AskedGateway(tmp_path / "g")
    [one] = calls(1)
    evil = replace(one, inspection=replace(one.inspection, model="<script>alert(1)</script>"), body_bytes=10)
    gateway.record(*policy, [evil])
    file = tmp_path / "page.html"
    run(gateway, capsys, write_policy(tmp_path / "candidate", POLICY.replace("> 1000", "> 5")), html=file)
    assert "<script" not in file.read_text()
    assert "&lt;script&gt;" in file.read_text()
