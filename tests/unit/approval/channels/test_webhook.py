"""Webhooks out: signed so that a third party's library says so, and what becomes of them when the receiver is wrong."""

from __future__ import annotations

import json

import pytest

from ext_proc.app.process import clock
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.message import Event
from ext_proc.approval.channels.outgoing import Outgoing
from ext_proc.approval.channels.secret_files import webhook_secrets
from ext_proc.approval.channels.webhook import Webhook, written
from tests.fakes.receivers import OLDER, SECRET, Receiver, secret_file
from tests.fakes.told import HOLD, NASTY, message


def channel(there: Receiver, tmp_path, *secrets: bytes) -> Webhook:
    path = secret_file(tmp_path, *secrets)
    return Webhook("desk", Outgoing(f"{there.url}/hook", deadline_seconds=60), lambda: webhook_secrets(path), clock)


async def why(one: Webhook) -> Undelivered:
    with pytest.raises(Undelivered) as caught:
        await one.send(message())
    return caught.value


async def test_what_is_sent(tmp_path):
    async with Receiver() as there:
        await channel(there, tmp_path).send(message())
        [said] = there.got
        assert (there.ids, there.paths) == (["msg_desk_1"], ["/hook"])
    assert said["type"] == "hold.pending" and said["timestamp"] == "2026-11-25T12:00:00.000Z"
    assert said["data"]["hold_id"] == HOLD and said["data"]["model"] == NASTY
    assert said["data"]["state"] == "pending" and "masked" not in said["data"]
    assert said["data"]["expires_at"] == "2026-11-25T12:10:00.000Z"


async def test_while_the_secret_is_changed_both_sign(tmp_path):
    async with Receiver(SECRET, OLDER) as there:
        await channel(there, tmp_path, SECRET, OLDER).send(message())
        assert len(there.got) == 1


async def test_another_secret_is_refused_by_the_receiver(tmp_path):
    """The fake really checks."""
    async with Receiver(OLDER) as there:
        assert (await why(channel(there, tmp_path))).word == "status_500"
        assert not there.got


def test_a_digest_and_a_test():
    said = written(message(count=3))
    assert (said["type"], said["data"]["event"], said["data"]["count"]) == ("hold.digest", "hold.pending", 3)
    assert len({one["hold_id"] for one in said["data"]["holds"]}) == 3
    assert written(message(Event.TEST)) == {
        "type": "hold.test",
        "timestamp": "2026-11-25T12:00:00.000Z",
        "data": {},
    }
    assert written(message(masked="text"))["data"]["masked"] == "text"
    assert len(json.dumps(written(message(count=200)))) < 256 * 1024


@pytest.mark.parametrize(
    ("status", "is_final"),
    [(301, False), (400, False), (401, False), (404, False), (410, True), (500, False), (503, False)],
)
async def test_what_is_no_delivery(status, is_final, tmp_path):
    async with Receiver() as there:
        there.status, there.headers = status, {"retry-after": "9", "location": f"{there.url}/elsewhere"}
        error = await why(channel(there, tmp_path))
        assert (error.word, error.is_final, error.after_seconds) == (f"status_{status}", is_final, 9.0)
        assert there.paths == ["/hook"]  # no redirect is followed


async def test_a_huge_answer_is_not_read(tmp_path):
    async with Receiver() as there:
        there.body = b"x" * 2**23
        await channel(there, tmp_path).send(message())
        assert len(there.got) == 1


async def test_a_secret_that_is_gone(tmp_path):
    async with Receiver() as there:
        one = channel(there, tmp_path)
        (tmp_path / "secret").unlink()
        assert (await why(one)).word == "secret_unreadable"
        assert not there.ids
