"""The ways in, attacked: forged, replayed, late, altered, in somebody else's name, of one's own call, twice at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from ext_proc.approval.channels import answers
from ext_proc.approval.channels.answers import REFUSALS
from ext_proc.approval.channels.incoming import read_people
from ext_proc.approval.channels.secret_files import BadSecret
from ext_proc.database import sqlite_url
from ext_proc.errors import ApprovalUnavailable, AuditUnavailable
from ext_proc.model import HoldId
from tests.fakes.answering import ADA, BOB, ISSUER, OLDER, Answering
from tests.fakes.holds import TWO

if TYPE_CHECKING:
    from collections.abc import Iterator

EVERY_WAY = ("webhook", "slack")


@pytest.fixture
def house(tmp_path) -> Iterator[Answering]:
    found = Answering(sqlite_url(tmp_path / "registry.sqlite"))
    yield found
    found.close()


async def test_a_webhook_approves(house):
    hold = house.hold()
    reply = await house.webhooks.take(*house.signed(house.said(hold)))
    assert (reply.status, reply.code, reply.state) == (200, "taken", "approved")
    assert house.state(hold) == "approved"
    [entry] = house.log.entries
    assert (entry.kind, entry.facts["channel"], entry.identity.method) == ("approval.resolved", "webhook", "webhook")
    assert (entry.identity.subject, entry.payloads[0].body) == ("bob", b"case 7 of 2026")


async def test_a_webhook_denies(house):
    hold = house.hold()
    assert (await house.webhooks.take(*house.signed(house.said(hold, "deny")))).state == "denied"


async def test_somebody_in_slack_approves_and_is_told(house):
    hold = house.hold()
    reply = await house.slack.take(*house.pressed(hold))
    assert (reply.status, reply.code, house.state(hold)) == (200, "taken", "approved")
    [entry] = house.log.entries
    assert (entry.facts["channel"], entry.identity.method, entry.payloads[0].body) == (
        "slack",
        "slack",
        b"case 7 of 2026",
    )
    assert house.voice.said == [("C1", "U1", "It is on record, and it counts.")]


async def test_it_counts_though_nobody_can_be_told(house):
    house.voice.is_away = True
    hold = house.hold()
    assert (await house.slack.take(*house.pressed(hold, "deny"))).code == "taken"
    assert house.state(hold) == "denied"


async def refused(house: Answering, hold, headers: dict[str, str], body: bytes) -> str:
    """What the sender is told; nothing has happened, and nobody is named on record."""
    before = house.state(hold)
    reply = await house.webhooks.take(headers, body)
    assert reply.status in {400, 401, 403, 409} and reply.text == REFUSALS[reply.code]
    assert house.state(hold) == before
    assert all(entry.identity is None for entry in house.log.entries[-1:])
    return reply.code


async def test_forged(house):
    hold = house.hold()
    headers, body = house.signed(house.said(hold))
    assert await refused(house, hold, *house.signed(house.said(hold), secret=OLDER)) == "signature_wrong"
    assert await refused(house, hold, {}, body) == "signature_missing"
    assert await refused(house, hold, {**headers, "webhook-id": "msg_2"}, body) == "signature_wrong"
    assert await refused(house, hold, headers, json.dumps(house.said(hold, "deny")).encode()) == "signature_wrong"
    assert await refused(house, hold, headers, body.replace(b"bob", b"kim")) == "signature_wrong"
    assert [told[::2] for told in house.log.told()] == [
        ("approval.refused", code) for code in ("signature_wrong", "signature_missing", *["signature_wrong"] * 3)
    ]
    assert all(entry.facts["channel"] == "webhook" for entry in house.log.entries)
    # And the genuine one still counts.
    assert (await house.webhooks.take(headers, body)).code == "taken"


async def test_late_or_early(house):
    hold = house.hold()
    headers, body = house.signed(house.said(hold))
    house.clock.move(301)
    assert await refused(house, hold, headers, body) == "out_of_time"
    house.clock.move(-602)
    assert await refused(house, hold, headers, body) == "out_of_time"
    assert {told[2] for told in house.log.told()} == {"out_of_time"}


async def test_replayed(house):
    hold = house.hold(terms=TWO)
    sent = house.signed(house.said(hold))
    assert (await house.webhooks.take(*sent)).code == "taken"
    assert await refused(house, hold, *sent) == "replayed"
    # Another body under the same id, rightly signed: an id is for one message.
    assert await refused(house, hold, *house.signed(house.said(hold, "deny"))) == "replayed"
    assert [told[2] for told in house.log.told()] == ["approve", "replayed", "replayed"]
    # As long as its time stamp would be believed, even where that lies ahead of our clock.
    ahead = house.clock.move(0).__class__.fromtimestamp(house.clock().timestamp() + 290, tz=house.clock().tzinfo)
    later = house.signed(house.said(hold, person={**BOB, "subject": "kim"}), "msg_9", at=ahead)
    assert (await house.webhooks.take(*later)).code == "taken"
    house.clock.move(580)
    assert await refused(house, hold, *later) == "replayed"


async def test_a_restarted_or_another_console_knows_it_too(house):
    hold = house.hold(terms=TWO)
    sent = house.signed(house.said(hold))
    await house.webhooks.take(*sent)
    assert (await house.webhooks_at(house.other).take(*sent)).code == "replayed"


async def test_two_at_once_count_once(house):
    hold = house.hold(terms=TWO)
    sent = house.signed(house.said(hold))
    ways = [house.webhooks, house.webhooks_at(house.other)] * 4
    replies = await asyncio.gather(*(way.take(*sent) for way in ways))
    assert sorted(reply.code for reply in replies) == ["replayed"] * 7 + ["taken"]
    assert len([told for told in house.log.told() if told[0] == "approval.resolved"]) == 1


@pytest.mark.parametrize(
    ("person", "code"),
    [
        ({"issuer": "https://evil.example"}, "sender_may_not"),
        ({"tenant": "other"}, "sender_may_not"),
        ({"groups": ["approvers", "officers"]}, "sender_may_not"),
        ({"groups": []}, "sender_may_not"),
        ({"groups": ["x"]}, "not_an_approver"),
        ({"subject": "ada"}, "own_call"),
        ({"tenant": "acme"}, "no_such_hold"),
    ],
)
async def test_in_whose_name(person, code, house):
    """A right signature makes nobody an approver, and nobody may answer a call of their own."""
    hold = house.hold(terms=TWO)
    reply = await house.webhooks.take(*house.signed(house.said(hold, person={**BOB, **person})))
    assert reply.code == code and reply.status in {403, 404}
    assert house.state(hold) == "pending"
    assert not [told for told in house.log.told() if told[0] == "approval.resolved"]
    assert house.log.told()[-1][2] == code


@pytest.mark.parametrize(
    "changed",
    [
        {"hold_id": "nonsense"}, {"hold_id": 7}, {"hold_id": "A" * 32}, {"answer": "yes"}, {"answer": None}, {"answer": []},
        {"justification": None}, {"justification": 7}, {"person": None}, {"person": {**BOB, "groups": "approvers"}},
        {"person": {**BOB, "groups": [["approvers"]]}}, {"person": {**BOB, "admin": True}}, {"extra": 1},
        {"person": {**BOB, "subject": ""}}, {"person": {**BOB, "subject": "bob\u0000"}},
        {"person": {**BOB, "subject": "\ud800"}}, {"person": {**BOB, "subject": "x" * 600}},
    ],
)  # fmt: skip
async def test_what_is_something_else(changed, house):
    hold = house.hold()
    reply = await house.webhooks.take(*house.signed({**house.said(hold), **changed}))
    assert (reply.status, reply.code, house.state(hold)) == (400, "unreadable", "pending")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"[" * 50_000, b'"x"'])
async def test_what_is_nothing(body, house):
    hold = house.hold()
    assert (await house.webhooks.take(*house.signed(body))).code == "unreadable"
    twice = json.dumps(house.said(hold)).encode().replace(b'"answer"', b'"answer": "deny", "answer"')
    assert (await house.webhooks.take(*house.signed(twice))).code == "unreadable"


async def test_the_rules_are_the_rules(house):
    hold = house.hold(terms=TWO)
    unsaid = await house.webhooks.take(*house.signed(house.said(hold, justification=" "), "msg_1"))
    assert (unsaid.status, unsaid.code) == (422, "justification_required")
    assert (await house.webhooks.take(*house.signed(house.said(hold), "msg_2"))).state == "pending"
    again = await house.webhooks.take(*house.signed(house.said(hold), "msg_3"))
    assert (again.status, again.code) == (409, "already_said")
    # The same person in Slack is the same person.
    assert (await house.slack.take(*house.pressed(hold))).code == "already_said"
    house.clock.move(700)
    late = await house.webhooks.take(*house.signed(house.said(hold, person={**BOB, "subject": "kim"}), "msg_4"))
    assert (late.status, late.code) == (409, "expired")
    assert [told[2] for told in house.log.told()] == [
        "justification_required", "approve", "already_said", "already_said", "expired",
    ]  # fmt: skip


async def test_a_hold_that_nobody_knows_leaves_no_record(house):
    hold = house.hold()
    unknown = house.said(hold, hold_id="0" * 32)
    assert (await house.webhooks.take(*house.signed(unknown))).code == "no_such_hold"
    assert (await house.webhooks.take(*house.signed(unknown, "msg_2", secret=OLDER))).code == "signature_wrong"
    assert not house.log.entries


async def test_strangers_cannot_fill_the_log(house):
    hold = house.hold()
    for number in range(40):
        await house.webhooks.take(*house.signed(house.said(hold), f"msg_{number}", secret=OLDER))
    assert len(house.log.entries) == 10
    assert (await house.webhooks.take(*house.signed(house.said(hold)))).code == "taken"


async def test_invented_holds_do_not_let_strangers_fill_it_after_all(house, monkeypatch):
    """However many ids they invent: the register is asked so often in a while, and the limit of a hold stands."""
    monkeypatch.setattr(answers, "_IN_ALL_MAX", 30)
    hold, asked = house.hold(), []
    really = house.desk.refuse_stranger
    house.desk.refuse_stranger = lambda *told: asked.append(told) or really(*told)
    headers, _ = house.signed(house.said(hold), secret=OLDER)

    async def noise() -> None:
        for number in range(60):
            await house.webhooks.take(headers, json.dumps(house.said(hold, hold_id=f"{number:032x}")).encode())
        for _ in range(20):
            await house.webhooks.take(headers, json.dumps(house.said(hold)).encode())

    for _ in range(20):
        await house.webhooks.take(headers, json.dumps(house.said(hold)).encode())
    await noise()
    assert (len(house.log.entries), len(asked)) == (10, 30)
    # Who has a right signature is on record all the same.
    other = house.hold()
    eve = {**BOB, "groups": ["admins"]}
    await house.webhooks.take(*house.signed(house.said(other, person=eve), "msg_9"))
    assert house.log.told()[-1] == ("approval.refused", None, "sender_may_not")
    for _ in range(3):
        house.clock.move(601)
        await noise()
    assert (len(house.log.entries), len(asked)) == (11, 31 + 3 * 30)


async def test_what_could_not_be_recorded_counts_when_it_is_sent_again(house):
    hold = house.hold()
    sent = house.signed(house.said(hold))
    house.log.is_down = True
    with pytest.raises(AuditUnavailable):
        await house.webhooks.take(*sent)
    assert house.state(hold) == "pending"
    house.log.is_down = False
    assert (await house.webhooks.take(*sent)).code == "taken"


async def test_secrets_that_are_gone_are_no_reason_to_believe(house):
    def gone() -> list[bytes]:
        raise BadSecret("/secret: cannot be read")

    house.senders[0] = house.senders[0].__class__("ci", gone, frozenset(), frozenset(), frozenset())
    hold = house.hold()
    with pytest.raises(ApprovalUnavailable):
        await house.webhooks_at(house.outbox).take(*house.signed(house.said(hold)))


async def test_of_several_senders_each_speaks_for_its_own(house):
    first = house.senders[0]
    house.senders.append(
        type(first)("other", lambda: [OLDER], frozenset({ISSUER}), frozenset({None}), frozenset({"x"}))
    )
    both, hold = house.webhooks_at(house.outbox), house.hold()
    assert (await both.take(*house.signed(house.said(hold), secret=OLDER))).code == "sender_may_not"
    assert (await both.take(*house.signed(house.said(hold)))).code == "taken"


# Slack -------------------------------------------------------------------------------------------------------------


async def test_slack_forged_late_and_replayed(house):
    hold = house.hold(terms=TWO)
    for sent, code in (
        (house.pressed(hold, secret=b"another-secret-01234567"), "signature_wrong"),
        (({}, house.pressed(hold)[1]), "signature_missing"),
        ((house.pressed(hold)[0], house.pressed(hold, user="U2")[1]), "signature_wrong"),
        (house.pressed(hold, ago=301), "out_of_time"),
        (house.pressed(hold, ago=-301), "out_of_time"),
    ):
        reply = await house.slack.take(*sent)
        assert (reply.status, reply.code, house.state(hold)) == (401, code, "pending")
        assert house.log.told()[-1] == ("approval.refused", None, code)
    sent = house.pressed(hold)
    assert (await house.slack.take(*sent)).code == "taken"
    again = await house.slack.take(*sent)
    assert (again.status, again.code) == (409, "replayed")
    assert house.log.told()[-1] == ("approval.refused", None, "replayed")


async def test_slack_in_whose_name(house):
    hold = house.hold()
    assert (await house.slack.take(*house.pressed(hold, user="U2"))).code == "own_call"
    assert (await house.slack.take(*house.pressed(hold, user="U9"))).code == "unknown_person"
    assert house.voice.said[-1][2] == REFUSALS["unknown_person"]
    assert house.log.told() == [("approval.refused", "ada", "own_call"), ("approval.refused", None, "unknown_person")]
    house.people["U1"] = house.people["U1"].__class__(ISSUER, "bob", None, ("analysts",))
    assert (await house.slack.take(*house.pressed(hold))).code == "not_an_approver"  # left the group in between
    assert house.state(hold) == "pending"


async def test_slack_without_a_reason(house):
    hold = house.hold()
    assert (await house.slack.take(*house.pressed(hold, why=None))).code == "justification_required"
    assert "Say why" in house.voice.said[-1][2]


async def test_slack_opening_the_page_says_nothing(house):
    hold = house.hold()
    assert (await house.slack.take(*house.pressed(hold, "open"))).code == "ignored"
    assert not house.log.entries


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "view_submission"}, {"actions": []}, {"actions": [{"action_id": "approve", "value": "x"}] * 2},
        {"actions": [{"action_id": "approve", "value": "../x"}]}, {"user": {}}, {"user": {"id": 7}}, {"channel": None},
        {"state": {}}, {"actions": "approve"}, {"state": {"values": {"why": {"justification": {"value": 7}}}}},
    ],
)  # fmt: skip
async def test_slack_something_else(changed, house):
    hold = house.hold()
    reply = await house.slack.take(*house.pressed(hold, **changed))
    assert (reply.status, reply.code, house.state(hold)) == (400, "unreadable", "pending")


async def test_what_is_shown_on_a_channel_is_on_record_first(house):
    hold_id = "5" * 32
    house.hold('{"ask": "[EMAIL]"}', hold_id=HoldId(hold_id))
    assert house.desk.show_in(HoldId(hold_id), "slack") == '{"ask": "[EMAIL]"}'
    assert house.log.told() == [("approval.viewed", None, None)]
    house.log.is_down = True
    with pytest.raises(AuditUnavailable):
        house.desk.show_in(HoldId(hold_id), "slack")
    assert house.desk.show_in(HoldId("6" * 32), "slack") is None
    assert ADA.subject not in str(house.log.entries)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"U1": {}}', '{"U1": 1}', '{"U1": {"issuer": "i", "subject": "s", "groups": []}}',
             '{"U1": null}', '{"U1": {"issuer": "i", "subject": "s", "tenant": null, "groups": ["a"], "more": 1}}']
)  # fmt: skip
def test_a_file_of_people_that_says_something_else(text):
    with pytest.raises(ValueError):  # noqa: PT011 - json's too
        read_people(text)
