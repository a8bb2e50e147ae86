"""``/hooks/*`` through the whole console: no session helps, no session is needed, and nothing is there by mistake."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from ext_proc.console.hooks import Hooks
from ext_proc.console.server import Console
from ext_proc.database import sqlite_url
from tests.fakes.answering import OLDER, Answering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fakes.console_desk import Browser, Desk


class House(Answering):
    url: str
    browser: Browser

    async def send(self, path: str, headers: dict[str, str], body: bytes, kind: str = "application/json"):
        return await self.browser._ask(
            "POST", self.url + path, {"data": body, "headers": {**headers, "content-type": kind}}
        )


@pytest.fixture
async def house(desk: Desk, tmp_path) -> AsyncIterator[House]:
    found = House(sqlite_url(tmp_path / "registry.sqlite"))
    listening = socket.create_server(("127.0.0.1", 0))
    told = (desk.console._settings, desk.console._rooms, desk.provider, desk.clock)
    found.url = await desk._serve(Console(*told, Hooks(found.webhooks, found.slack)).app(), listening)
    found.browser = desk.browser()
    yield found
    await asyncio.to_thread(found.close)


async def test_a_signed_answer_counts(house: House):
    hold = house.hold()
    answer = await house.send("/hooks/webhook", *house.signed(house.said(hold)))
    assert (answer.status, answer.json()) == (200, {"code": "taken", "state": "approved"})
    assert "set-cookie" not in answer.headers and answer.headers["cache-control"] == "no-store"
    assert house.state(hold) == "approved"


async def test_slack_gets_an_empty_answer(house: House):
    hold = house.hold()
    answer = await house.send("/hooks/slack", *house.pressed(hold), "application/x-www-form-urlencoded")
    assert (answer.status, answer.text, house.state(hold)) == (200, "", "approved")


async def test_what_is_refused_says_why_and_nothing_happens(house: House):
    hold = house.hold()
    answer = await house.send("/hooks/webhook", *house.signed(house.said(hold), secret=OLDER))
    assert (answer.status, answer.json()["error"]["code"]) == (401, "signature_wrong")
    for path in ("/hooks/webhook", "/hooks/slack"):
        assert (await house.send(path, {}, b"x" * 70_000)).json()["error"]["code"] == "too_large"
    assert house.state(hold) == "pending"


async def test_a_session_is_no_signature(house: House, desk: Desk):
    hold = house.hold()
    signed_in, with_token = await desk.signed_in("bob"), await desk.with_token("bob")
    for house.browser in (signed_in, with_token):
        _, body = house.signed(house.said(hold))
        assert (await house.send("/hooks/webhook", {}, body)).status == 401
    assert house.state(hold) == "pending"


async def test_a_header_that_stands_twice_is_none(house: House):
    hold = house.hold()
    headers, body = house.signed(house.said(hold))
    told = [*headers.items(), ("webhook-signature", headers["webhook-signature"])]
    async with house.browser._client.post(f"{house.url}/hooks/webhook", data=body, headers=told) as answer:
        assert (await answer.json())["error"]["code"] == "signature_missing"


async def test_while_nothing_can_be_recorded(house: House):
    hold = house.hold()
    sent = house.signed(house.said(hold))
    house.log.is_down = True
    answer = await house.send("/hooks/webhook", *sent)
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert answer.json()["error"]["code"] == "audit_unavailable"
    house.log.is_down = False
    assert (await house.send("/hooks/webhook", *sent)).status == 200


async def test_where_nobody_listens_there_is_nothing(desk: Desk):
    browser = desk.browser()
    for path in ("/hooks/webhook", "/hooks/slack"):
        assert (await browser._ask("POST", path, {"data": b"{}"})).status == 404
        assert (await browser.get(path)).status == 405
