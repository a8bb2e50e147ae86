"""The API is what its description says; streams say that something changed, and end with the session."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from ext_proc.console import openapi, seen
from ext_proc.console.routes import API, PUBLIC, ROUTES
from tests.fakes.console_rooms import exchange_id, hold_id, person

if TYPE_CHECKING:
    from typing import Self

    from tests.fakes.console_desk import Browser, Desk

TOLD = {"answer": "approve", "justification": "Checked it.", "channel": "cli", "purpose": "ticket 7"}
EVERYBODY = person("root", "approvers", "auditors", "operators", "policy-authors")
WITH_ANSWER = [route for route in ROUTES if route.has_api and route.answer is not None]


def _schema(document: dict[str, Any], path: str, method: str, status: str) -> dict[str, Any]:
    content = document["paths"][path][method]["responses"][status]["content"]["application/json"]
    # 2020-12 resolves references of the same document; its components go along.
    return {**content["schema"], "components": document["components"]}


def _plain(path: str) -> str:
    return re.sub(r"\{(\w+):(?:[^{}]|\{\d+\})+\}", r"{\1}", API + path)


def _strict(schema: Any) -> Any:
    """The same, but no field that the description does not have: nothing is told by accident."""
    if isinstance(schema, dict):
        made = {name: _strict(inner) for name, inner in schema.items()}
        return (
            {**made, "additionalProperties": False}
            if schema.get("type") == "object" and "properties" in schema
            else made
        )
    return [_strict(one) for one in schema] if isinstance(schema, list) else schema


async def _stock(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts", tenant=None), clear_to=("approvers",))
    desk.exchanges.add(1, hold_id=hold_id(1))
    differences = (seen.Difference("a.rego", "changed", ("-a", "+b")),)
    desk.exchanges.policies = (
        seen.Activation(desk.clock(), "r1", "ab" * 32, "demo", is_current=True, differences=differences),
    )
    desk.exchanges.refused = (seen.BundleRefused(desk.clock(), "cd" * 32, "older", 6, "demo"),)
    desk.exchanges.shadows = (
        seen.ShadowSeen("ef" * 32, "r3", "newly_denied", 12, desk.clock(), desk.clock(), exchange_id(1)),
    )
    desk.exchanges.standing = seen.Standing(
        seen.Verified(desk.clock(), False, 1, 1, (seen.FindingSeen("object_missing", "v1/x", "gone"),)),
        (seen.Reconciled("2026-11-24", desk.clock(), 9, 9, 0),),
        (seen.Head("demo", 4, "ab" * 32, desk.clock(), "close"),),
    )


@pytest.mark.parametrize("route", WITH_ANSWER, ids=lambda one: one.name)
async def test_answers_are_as_described(desk: Desk, route: Any) -> None:
    await _stock(desk)
    program = await desk.with_token(EVERYBODY)
    document = (await program.get(f"{API}/openapi.json")).json()
    path = (
        route.path.replace(re.findall(r"\{hold_id.*\}(?=/|$)", route.path)[0], hold_id(1))
        if "hold_id" in route.path
        else route.path
    )
    path = re.sub(r"\{exchange_id:.*?\}(?=/|$)", exchange_id(1), path)

    told = {name: TOLD[name] for name in route.told}
    answer = await (program.get(API + path) if route.method == "GET" else program.send(path, told))

    assert answer.status == 200, answer.text
    jsonschema.Draft202012Validator(
        _strict(_schema(document, _plain(route.path), route.method.lower(), "200"))
    ).validate(answer.json())


@pytest.mark.parametrize("path", [f"{API}/holds/{hold_id(9)}", f"{API}/nowhere", f"{API}/exchanges?limit=0"])
async def test_errors_are_as_described(desk: Desk, path: str) -> None:
    document = openapi.description()
    error = {**document["components"]["schemas"]["Error"]}

    answer = await (await desk.with_token(EVERYBODY)).get(path)

    assert answer.status in {400, 404}
    jsonschema.Draft202012Validator(_strict(error)).validate(answer.json())


def test_description_has_every_route_of_the_api_and_no_other() -> None:
    document = openapi.description()
    described = {(path, method.upper()) for path, methods in document["paths"].items() for method in methods}

    assert described == {(_plain(route.path), route.method) for route in ROUTES if route.has_api}
    assert document["openapi"] == "3.1.0"
    for route in ROUTES:
        if route.has_api:
            operation = document["paths"][_plain(route.path)][route.method.lower()]
            assert bool(operation["security"]) == (route.audience != PUBLIC)
            named = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert named == set(re.findall(r"\{(\w+)\}", _plain(route.path)))


def test_description_refers_only_to_what_it_has() -> None:
    document = openapi.description()
    named = set(re.findall(r"'#/components/schemas/(\w+)'", repr(document)))

    assert named <= set(document["components"]["schemas"]) and len(named) > 20
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_channel_of_the_record(desk: Desk) -> None:
    await _stock(desk)
    program = await desk.with_token("bob")

    wrong = await program.send(f"/holds/{hold_id(1)}/resolution", {**TOLD, "channel": "console"})
    right = await program.send(f"/holds/{hold_id(1)}/resolution", TOLD)

    assert (wrong.status, right.status) == (400, 200)
    assert right.json()["line"]["state"] == "approved"
    assert desk.approvals.actions == [("bob", hold_id(1), True, "cli")]


async def test_unknown_tokens_and_keys_that_cannot_be_had(desk: Desk) -> None:
    from ext_proc.errors import KeysUnavailable

    program = await desk.with_token("bob")
    desk.bearers.failure = KeysUnavailable("down")

    assert (await program.get(f"{API}/me")).status == 503


async def test_token_that_expired(desk: Desk) -> None:
    from datetime import timedelta

    program = await desk.with_token(person("bob", "approvers", expires_at=desk.clock() + timedelta(minutes=5)))
    before = await program.get(f"{API}/me")
    desk.clock.move(minutes=5)
    after = await program.get(f"{API}/me")

    assert (before.status, after.status) == (200, 401) and before.json()["roles"] == ["approver"]


# Streams ------------------------------------------------------------------------------------------------------------


class _Listening:
    """A browser that listens to changes."""

    def __init__(self, browser: Browser, path: str = "/holds/changes", **headers: str) -> None:
        cookie = {"cookie": f"affidavit={browser.session_id}"} if browser.session_id else {}
        self._asked = browser._client.get(browser.desk.url + path, headers={**cookie, **headers})

    async def __aenter__(self) -> Self:
        self.answer = await self._asked.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.answer.close()
        await self._asked.__aexit__(*error)

    async def event(self) -> dict[str, str]:
        """The next one that says something."""
        told: dict[str, str] = {}
        while True:
            line = (await asyncio.wait_for(self.answer.content.readline(), 10)).decode()
            if not line:
                return {"event": "end"}
            name, _, value = line.rstrip("\n").partition(": ")
            if not line.strip() and "event" in told:
                return told
            told[name.rstrip(":")] = value


async def test_stream_says_that_something_changed_and_not_what(desk: Desk) -> None:
    async with _Listening(await desk.signed_in("bob")) as stream:
        first = await stream.event()
        await desk.approvals.add(1, person("ada", "analysts"))
        second = await stream.event()

        assert (
            stream.answer.headers["content-type"] == "text/event-stream"
            and stream.answer.headers["cache-control"] == "no-store"
        )
        assert first["event"] == second["event"] == "changed" and int(second["id"]) == int(first["id"]) + 1
        assert second["data"] == second["id"]


async def test_stream_goes_on_where_it_was(desk: Desk) -> None:
    for number in range(3):
        await desk.approvals.add(number, person("ada", "analysts"))
    bob = await desk.signed_in("bob")

    async with (
        _Listening(bob, **{"last-event-id": "2"}) as missed,
        _Listening(bob, **{"last-event-id": "9" * 15}) as restarted,
    ):
        assert (await missed.event())["id"] == (await restarted.event())["id"] == "4"


async def test_stream_ends_with_the_session(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bob = await desk.signed_in("bob")
    async with _Listening(bob) as stream:
        await stream.event()
        await bob.post("/logout", {})
        await desk.approvals.add(1, person("ada", "analysts"))

        assert (await stream.event())["event"] == "signed_out"
        assert (await stream.event())["event"] == "end"


async def test_stream_notices_by_itself_that_the_session_is_over(desk: Desk) -> None:
    desk.console._streams._ping_seconds = 0.05
    async with _Listening(await desk.signed_in("bob")) as stream:
        await stream.event()
        desk.clock.move(hours=9)

        assert (await stream.event())["event"] == "signed_out"


@pytest.mark.parametrize(("limit", "status"), [("STREAMS_MAX", 503), ("PERSON_MAX", 200)])
async def test_streams_are_bounded(desk: Desk, monkeypatch: pytest.MonkeyPatch, limit: str, status: int) -> None:
    monkeypatch.setattr(f"ext_proc.console.live.{limit}", 1)
    bob, carol = await desk.signed_in("bob"), await desk.signed_in("carol")
    async with _Listening(bob) as stream:
        await stream.event()
        assert (await bob.get("/holds/changes")).status == 503
        async with _Listening(carol) as other:
            assert other.answer.status == status


async def test_streams_end_when_the_console_stops(desk: Desk) -> None:
    async with _Listening(await desk.signed_in("bob")) as stream:
        await stream.event()
        streams = desk.console._streams
        await streams.close()

        assert (await stream.event())["event"] == "end"
        assert not streams._open


async def test_many_changes_at_once_are_few_events(desk: Desk) -> None:
    async with _Listening(await desk.signed_in("bob")) as stream:
        first = int((await stream.event())["id"])
        for number in range(200):
            await desk.approvals.add(number, person("ada", "analysts"))
            await asyncio.sleep(0.002)  # time enough to tell of each, if it were told
        count, last = 0, first
        while last < first + 200:
            last = int((await stream.event())["id"])
            count += 1

        assert count < 100
