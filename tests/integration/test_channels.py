"""A call waits, somebody hears of it where they are, and answers there: everything but the worker and the browser.

The real register, bell, outbox, courier and console's door, over HTTP; receivers on loopback stand for yours and Slack.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from ext_proc.app.process import clock
from ext_proc.approval.bell import Bell
from ext_proc.approval.channels import courier as courier_module
from ext_proc.approval.channels.courier import Courier, Post, Teller
from ext_proc.approval.channels.outbox import Audience
from ext_proc.approval.channels.outgoing import Outgoing
from ext_proc.approval.channels.slack import Slack
from ext_proc.approval.channels.webhook import Webhook
from ext_proc.approval.watch import open_watch
from ext_proc.console.hooks import Hooks
from ext_proc.database import sqlite_url
from tests.fakes.answering import OLDER, SECRET, Answering
from tests.fakes.receivers import FakeSlack, Receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HOLD_ID = "7" * 32


class House(Answering):
    """Two couriers, as of two consoles, and one door."""

    url: str
    receiver: Receiver
    at_slack: FakeSlack

    async def until(self, is_so: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not is_so():  # noqa: ASYNC110 - what is waited for lies in another program, or would
                await asyncio.sleep(0.02)

    async def send(self, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as session:
            kind = "application/json" if path.endswith("webhook") else "application/x-www-form-urlencoded"
            told = {**headers, "content-type": kind}
            async with session.post(f"{self.url}{path}", data=body, headers=told) as answer:
                return answer.status, await answer.read()


@pytest.fixture
async def house(tmp_path, monkeypatch) -> AsyncIterator[House]:
    monkeypatch.setattr(courier_module, "_SPACING_SECONDS", 0.02)
    url = sqlite_url(tmp_path / "registry.sqlite")
    found = House(url, clock, OLDER)
    async with Receiver() as found.receiver, FakeSlack() as found.at_slack:
        couriers, watches = [], []
        for outbox in (found.outbox, found.other):
            watches.append(open_watch(url))
            bell = Bell(watches[-1], found.register, clock)
            couriers.append((bell, Courier(outbox, _posts(found), _teller(found), bell, clock)))
        runner = web.AppRunner(_door(found), access_log=None)
        await runner.setup()
        listening = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listening).start()
        found.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        running = [asyncio.get_running_loop().create_task(work.run_forever()) for pair in couriers for work in pair]
        yield found
        for task in running:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await runner.cleanup()
        for watch in watches:
            watch.close()
    found.close()


def _door(house: House) -> web.Application:
    app, hooks = web.Application(), Hooks(house.webhooks, house.slack)
    app.router.add_post("/hooks/webhook", hooks.webhook)
    app.router.add_post("/hooks/slack", hooks.slack)
    return app


def _posts(house: House) -> list[Post]:
    hook = Webhook("program", Outgoing(f"{house.receiver.url}/x"), lambda: [SECRET], clock)
    slack = Slack("team", Outgoing(house.at_slack.url), lambda: "xoxb-test-token", "C1", "https://desk/holds")
    return [
        Post(hook, Audience("program"), is_for_people=False),
        Post(slack, Audience("team"), has_text=True),
    ]


def _teller(house: House) -> Teller:
    return Teller(lambda hold_id: f"https://desk/holds/{hold_id}", house.desk.show_in)


async def test_heard_and_answered_by_a_program(house: House):
    hold = house.hold()
    await house.until(lambda: house.receiver.got)
    told = house.receiver.got[0]
    assert (told["type"], told["data"]["hold_id"]) == ("hold.pending", hold.hold_id)
    sent = house.signed(house.said(hold), secret=OLDER)
    assert await house.send("/hooks/webhook", *sent) == (200, b'{"code": "taken", "state": "approved"}')
    assert (await house.send("/hooks/webhook", *sent))[0] == 409
    await house.until(lambda: len(house.receiver.got) == 2)
    told = house.receiver.got[1]
    assert (told["type"], told["data"]["state"], told["data"]["given"]) == ("hold.resolved", "approved", 1)
    # What we say ourselves is no answer, whoever sends it back.
    assert (await house.send("/hooks/webhook", *house.signed(told, "msg_2")))[0] == 401


async def test_heard_and_answered_in_slack(house: House):
    hold = house.hold("mail [EMAIL] now", hold_id=HOLD_ID)
    await house.until(lambda: house.at_slack.messages)
    [shown] = house.at_slack.messages.values()
    assert "mail [EMAIL] now" in json.dumps(shown["blocks"])
    assert house.log.told()[0] == ("approval.viewed", None, None)
    assert await house.send("/hooks/slack", *house.pressed(hold, "deny")) == (200, b"")
    await house.until(lambda: "denied" in json.dumps(list(house.at_slack.messages.values())))
    assert len(house.at_slack.messages) == 1 and house.state(hold) == "denied"


async def test_two_consoles_tell_each_thing_once_though_the_receiver_was_down(house: House):
    house.receiver.status = 503
    holds = [house.hold() for _ in range(4)]
    await house.until(lambda: len(set(house.receiver.ids)) >= 1)
    house.receiver.status = 200
    await house.until(lambda: len(house.receiver.got) == 4)
    await asyncio.sleep(0.5)
    told = [one["data"]["hold_id"] for one in house.receiver.got]
    assert sorted(told) == sorted(hold.hold_id for hold in holds)
    assert len(house.at_slack.messages) == 4
