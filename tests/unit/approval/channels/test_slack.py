"""Slack out: what a message looks like, that nothing in it is anybody else's markup, and what Slack says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.message import Event
from ext_proc.approval.channels.outgoing import Outgoing
from ext_proc.approval.channels.secret_files import BadSecret
from ext_proc.approval.channels.slack import Slack, blocks
from ext_proc.model import HoldState
from tests.fakes.receivers import FakeSlack
from tests.fakes.told import HOLD, NASTY, message

INBOX = "https://desk.example.com/holds"


def channel(there: FakeSlack, token: str = "xoxb-test-token") -> Slack:
    return Slack("team", Outgoing(there.url, deadline_seconds=60), lambda: token, "C0123456789", INBOX)


def kinds(value: Any) -> list[str]:
    """Every `type` in it."""
    if isinstance(value, list):
        return [kind for one in value for kind in kinds(one)]
    if not isinstance(value, dict):
        return []
    return [value["type"], *(kind for one in value.values() for kind in kinds(one))]


EVERY = [
    message(masked=NASTY), message(count=37), message(Event.RESOLVED, reference="C1:1"), message(Event.TEST),
    message(masked="x" * 100_000), message(groups=tuple(f"group-{n}" * 20 for n in range(200))),
]  # fmt: skip


@pytest.mark.parametrize("one", EVERY)
def test_nothing_is_markup_and_all_of_it_fits(one):
    found = blocks(one, INBOX)
    assert "mrkdwn" not in kinds(found)
    for block in found:
        for field in block.get("fields", ()):
            assert len(field["text"]) <= 2000
        if "text" in block:
            assert 0 < len(block["text"]["text"]) <= (150 if block["type"] == "header" else 3000)


def test_buttons_name_the_hold():
    found = blocks(message(), INBOX)
    actions = {one["action_id"]: one for one in found[-1]["elements"]}
    assert actions["approve"]["value"] == actions["deny"]["value"] == HOLD
    assert actions["open"]["url"] == f"{INBOX}/{HOLD}"
    [field] = [block for block in found if block["type"] == "input"]
    assert (field["block_id"], field["element"]["action_id"]) == ("why", "justification")


def test_what_is_over_has_no_buttons_but_one():
    for one in (message(Event.RESOLVED, state=HoldState.DENIED), message(count=37)):
        found = blocks(one, INBOX)
        assert [button["action_id"] for button in found[-1]["elements"]] == ["open"]
        assert not [block for block in found if block["type"] == "input"]
    assert "and 17 more" in json.dumps(blocks(message(count=37), INBOX))


def test_what_does_not_fit_is_not_answered_there():
    """Nobody agrees to what they cannot read to its end."""
    for length, answers in ((2900, ["approve", "deny", "open"]), (2901, ["open"])):
        found = blocks(message(masked="x" * length), INBOX)
        assert [button["action_id"] for button in found[-1]["elements"]] == answers
        assert bool([block for block in found if block["type"] == "input"]) is (length == 2900)
        assert ("There are 1 more characters" in json.dumps(found)) is (length == 2901)


async def test_told_and_changed():
    async with FakeSlack() as there:
        reference = await channel(there).send(message())
        assert reference == "C0123456789:1700000000.000000"
        assert await channel(there).send(message(Event.RESOLVED, reference=reference)) == reference
        assert [one.method for one in there.asked] == ["chat.postMessage", "chat.update"]
        [shown] = there.messages.values()
        assert "approved" in json.dumps(shown["blocks"]) and '"deny"' not in json.dumps(shown["blocks"])
        assert await channel(there).send(message(count=9)) is None


async def test_slack_says_no():
    async def why(one: Slack, **more) -> tuple[str, bool, float]:
        with pytest.raises(Undelivered) as caught:
            await one.send(message(**more))
        return caught.value.word, caught.value.is_final, caught.value.after_seconds

    async with FakeSlack() as there:
        one = channel(there)
        assert await why(channel(there, "xoxb-another")) == ("invalid_auth", False, 0.0)
        assert await why(one, event=Event.RESOLVED, reference="C1:9") == ("message_not_found", True, 0.0)
        for error, word in (("channel_not_found", "channel_not_found"), ("<b>odd</b>", "slack_said_no")):
            there.error = error
            assert await why(one) == (word, False, 0.0)
        there.error = None
        for body in (b"<html>", b"[]", b"null", b'{"ok": 1}', b'{"ok": true}', b"[" * 50_000, b"\xff"):
            there.body = body
            assert (await why(one))[0] in {"garbage", "slack_said_no"}
        there.status, there.headers = 429, {"retry-after": "30"}
        assert await why(one) == ("ratelimited", False, 30.0)
        there.status = 502
        assert (await why(one))[0] == "status_502"


async def test_a_token_that_is_gone():
    def gone() -> str:
        raise BadSecret("/x: cannot be read")

    with pytest.raises(Undelivered) as caught:
        await Slack("team", Outgoing("http://127.0.0.1:9"), gone, "C1", INBOX).send(message())
    assert caught.value.word == "secret_unreadable"
