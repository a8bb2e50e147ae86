"""Who may ask for what, and from where: the table with every role, forged forms, headers, tenants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from ext_proc.console.guard import HEADERS
from ext_proc.console.people import Role
from ext_proc.console.ports import Health
from ext_proc.console.routes import API, PUBLIC, ROUTES, SIGNED_IN, Route
from ext_proc.errors import AuditUnavailable
from tests.fakes.console_desk import ROLES
from tests.fakes.console_rooms import exchange_id, hold_id, person

if TYPE_CHECKING:
    from tests.fakes.console_desk import Browser, Desk

HOLD = f"/holds/{hold_id(1)}"
EXCHANGE = f"/exchanges/{exchange_id(1)}"
GUARDED = [route for route in ROUTES if route.audience != PUBLIC]
PEOPLE = {role.value: person(f"some-{role.value}", *ROLES[role]) for role in Role} | {
    "none": person("nobody", "analysts")
}
TOLD = {"answer": "approve", "justification": "Checked it.", "purpose": "ticket 7"}
UNTOUCHED = {"home", "changes"}  # go elsewhere, or on for ever: looked at below


def _path(route: Route) -> str:
    path = re.sub(r"\{hold_id:.*?\}(?=/|$)", hold_id(1), route.path)
    return re.sub(r"\{exchange_id:.*?\}(?=/|$)", exchange_id(1), path)


async def _stocked(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts"))
    desk.exchanges.add(1)


async def _asked(browser: Browser, route: Route, *, is_api: bool) -> int:
    if route.method == "GET":
        return (await browser.get((API if is_api else "") + _path(route))).status
    told = {name: TOLD[name] for name in route.told if name in TOLD}
    if is_api:
        return (await browser.send(_path(route), told)).status
    return (await browser.post(_path(route), told)).status


@pytest.mark.parametrize(
    "route", [one for one in GUARDED if one.template and one.name not in UNTOUCHED], ids=lambda one: one.name
)
async def test_page_is_for_the_roles_of_the_table(desk: Desk, route: Route) -> None:
    await _stocked(desk)

    for who, identity in PEOPLE.items():
        status = await _asked(await desk.signed_in(identity), route, is_api=False)
        _check(route, who, status)


@pytest.mark.parametrize(
    "route", [one for one in GUARDED if one.has_api and one.name not in UNTOUCHED], ids=lambda one: one.name
)
async def test_twin_is_for_the_same_roles(desk: Desk, route: Route) -> None:
    await _stocked(desk)

    for who, identity in PEOPLE.items():
        status = await _asked(await desk.with_token(identity), route, is_api=True)
        _check(route, who, status)


def _check(route: Route, who: str, status: int) -> None:
    if route.name == "hold":  # everybody with a token; the hold itself knows that these may not see it
        assert status == (200 if who == "approver" else 403)
    elif route.audience == SIGNED_IN or (who != "none" and Role(who) in route.audience):
        assert status in {200, 303}
    else:
        assert status == 403


async def test_every_refusal_for_want_of_a_role_is_on_record(desk: Desk) -> None:
    """By who it was, and which page; of what they wrote nothing."""
    await _stocked(desk)
    page, program = await desk.signed_in(PEOPLE["none"]), await desk.with_token(PEOPLE["operator"])
    refused = [one for one in GUARDED if one.audience != SIGNED_IN]

    for route in refused:
        if route.is_for_browsers:
            assert await _asked(page, route, is_api=False) == 403
        if route.has_api and Role.OPERATOR not in route.audience:
            assert await _asked(program, route, is_api=True) == 403

    told = desk.refusals.noted
    assert {one[1] for one in told if one[3] == "console"} == {one.name for one in refused if one.is_for_browsers}
    assert {(one[0], one[2], one[3]) for one in told} == {
        ("nobody", "role_missing", "console"),
        ("some-operator", "role_missing", "api"),
    }
    for person_of in PEOPLE.values():
        await (await desk.signed_in(person_of)).get("/me")
    assert desk.refusals.noted == told


async def test_hold_of_other_approvers_is_refused_on_record(desk: Desk) -> None:
    await _stocked(desk)
    eve = await desk.with_token(PEOPLE["none"])

    assert (await eve.get(f"/api/v1{HOLD}")).status == 403
    assert desk.refusals.noted == [("nobody", "hold", "not_an_approver", "api", 0)]


async def test_nothing_is_shown_where_a_refusal_cannot_be_recorded(desk: Desk) -> None:
    desk.refusals.failure = AuditUnavailable("full")

    answer = await (await desk.with_token(PEOPLE["none"])).get("/api/v1/holds")

    assert (answer.status, answer.json()["error"]["code"]) == (503, "audit_unavailable")


async def test_table_is_what_the_design_says() -> None:
    """The table once more, in the words of the task: a role that is added by mistake shows."""
    told = {
        route.name: route.audience if isinstance(route.audience, str) else {str(one) for one in route.audience}
        for route in ROUTES
    }
    readers = {"auditor", "operator", "policy_author"}

    assert told == {
        "me": "signed_in", "home": "signed_in", "logout": "signed_in", "hold": "signed_in",
        "inbox": {"approver"}, "inbox_rows": {"approver"}, "changes": {"approver"}, "hold_clear": {"approver"}, "resolve": {"approver"},
        "exchanges": {"auditor"}, "exchange": {"auditor"}, "payloads": {"auditor"}, "verify_one": {"auditor"},
        "charts": readers, "policies": readers, "verification": {"auditor", "operator"},
        "login": "public", "callback": "public", "signed_out": "public", "static": "public", "openapi": "public", "health": "public",
        "hook_webhook": "public", "hook_slack": "public",  # by signature
    }  # fmt: skip


@pytest.mark.parametrize("route", GUARDED, ids=lambda one: one.name)
async def test_nobody_gets_nothing(desk: Desk, route: Route) -> None:
    await _stocked(desk)
    browser = desk.browser()

    if route.has_api:
        assert await _asked(browser, route, is_api=True) == 401
    if route.is_for_browsers:
        status = await _asked(browser, route, is_api=False)
        assert status == (401 if route.is_part or route.method == "POST" else 303)
    assert desk.approvals.views == [] and desk.approvals.actions == [] and desk.exchanges.readings == []


async def test_nothing_is_served_that_is_not_in_the_table(desk: Desk) -> None:
    listed = {(route.method, route.path) for route in ROUTES} | {
        (route.method, API + route.path) for route in ROUTES if route.has_api
    }
    served = {
        (one.method, one.resource.canonical if one.resource else "") for one in desk.console.app().router.routes()
    }
    assert ("GET", "/holds/changes") in served and ("GET", "/api/v1/holds/changes") in served
    plain = {(method, re.sub(r"\{(\w+):(?:[^{}]|\{\d+\})+\}", r"{\1}", path)) for method, path in listed}

    assert {one for one in served if one[0] != "HEAD"} <= plain


@pytest.mark.parametrize(
    ("who", "first"), [("bob", "/holds"), ("audrey", "/exchanges"), ("oscar", "/charts"), ("paula", "/charts")]
)
async def test_home_is_the_first_page_of_a_role(desk: Desk, who: str, first: str) -> None:
    assert (await (await desk.signed_in(who)).get("/")).headers["location"] == first


async def test_home_of_somebody_without_a_role_says_what_to_do(desk: Desk) -> None:
    browser = await desk.signed_in(PEOPLE["none"])

    assert (await browser.get("/")).headers["location"] == "/me"
    assert "ask whoever runs the gateway for a group" in (await browser.get("/me")).text


# Forged forms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "csrf"),
    [
        (None, None), ("null", None), ("https://evil.example", None), ("http://127.0.0.1", None), ("own.evil.example", None),
        ("own", ""), ("own", "x" * 43), ("own", "theirs"), ("own", "\u00e9"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [f"{HOLD}/resolution", f"{HOLD}/clear", "/logout"])
async def test_forged_form_changes_nothing(desk: Desk, path: str, origin: str | None, csrf: str | None) -> None:
    await _stocked(desk)
    browser, other = await desk.signed_in("bob"), await desk.signed_in("carol")
    token = await other.csrf() if csrf == "theirs" else csrf
    sent = {"own": desk.url, "own.evil.example": f"{desk.url}.evil.example"}.get(origin or "", origin)

    answer = await browser.post(
        path, {"answer": "approve", "justification": "ok with me"}, csrf=token, headers={"origin": sent}
    )

    assert answer.status == 403 and "Nothing was changed" in answer.text
    assert desk.approvals.actions == [] and desk.approvals.views == []
    assert (await browser.get("/me")).status == 200


async def test_two_origins_are_none(desk: Desk) -> None:
    await _stocked(desk)
    browser = await desk.signed_in("bob")
    headers = [("origin", desk.url), ("origin", "https://evil.example"), ("cookie", f"affidavit={browser.session_id}")]

    form = {"answer": "approve", "justification": "ok with me", "csrf": await browser.csrf()}
    async with browser._client.post(f"{desk.url}{HOLD}/resolution", data=form, headers=headers) as answer:
        assert answer.status == 403


async def test_api_with_a_cookie_wants_the_token_and_origin_too(desk: Desk) -> None:
    await _stocked(desk)
    browser = await desk.signed_in("bob")
    told = {"answer": "approve", "justification": "ok with me"}

    bare = await browser.send(f"{HOLD}/resolution", told)
    foreign = await browser.send(
        f"{HOLD}/resolution", told, headers={"origin": "https://evil.example", "x-csrf-token": await browser.csrf()}
    )
    whole = await browser.send(
        f"{HOLD}/resolution", told, headers={"origin": desk.url, "x-csrf-token": await browser.csrf()}
    )

    assert (bare.status, foreign.status, whole.status) == (403, 403, 200)


@pytest.mark.parametrize("shown", ["Basic eDp5", "Bearer", "Bearer nonsense", "bearer  ", "Bearer a b"])
async def test_token_that_is_none_is_not_helped_by_a_cookie(desk: Desk, shown: str) -> None:
    browser = await desk.signed_in("bob")

    answer = await browser.get("/api/v1/me", headers={"authorization": shown})

    assert answer.status == 401 and answer.headers["www-authenticate"].startswith("Bearer")


async def test_programs_are_told_of_tokens_and_not_of_sessions(desk: Desk) -> None:
    stranger, program = desk.browser(), await desk.with_token(PEOPLE["none"])
    said = [
        await stranger.get("/api/v1/me"),
        await stranger.get("/api/v1/me", headers={"authorization": "Bearer nonsense"}),
        await program.get("/api/v1/holds"),
        await program.send(f"{HOLD}/resolution", TOLD),
    ]

    assert [(one.status, one.json()["error"]["code"]) for one in said] == [
        (401, "not_signed_in"), (401, "invalid_token"), (403, "role_missing"), (403, "role_missing"),
    ]  # fmt: skip
    for one in said:
        words = one.json()["error"]["message"].lower()
        assert "token" in words
        assert not [word for word in ("session", "idle", "sign in and", "sign out") if word in words]
    assert said[1].headers["www-authenticate"] == 'Bearer error="invalid_token"'


async def test_pages_take_no_token(desk: Desk) -> None:
    """A page with a token in place of a session would be a page without a form token."""
    browser = await desk.with_token("bob")

    assert (await browser.get("/holds")).status == 303
    assert (await browser.post("/logout", {})).status == 401


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_api_takes_no_form(desk: Desk, kind: str) -> None:
    await _stocked(desk)
    browser = await desk.with_token("bob")

    answer = await browser._ask(
        "POST", f"/api/v1{HOLD}/resolution", {"data": b'{"answer":"approve"}', "headers": {"content-type": kind}}
    )

    assert answer.status == 415 and desk.approvals.actions == []


# What browsers are told ---------------------------------------------------------------------------------------------

_EVERYWHERE = [
    "/holds",
    "/nowhere",
    "/login",
    "/me",
    HOLD,
    "/api/v1/me",
    "/api/v1/nowhere",
    "/health",
    "/signed-out",
    "/login/callback",
]


@pytest.mark.parametrize("path", [*_EVERYWHERE, f"{HOLD}/resolution"])
async def test_every_answer_has_the_headers(desk: Desk, path: str) -> None:
    await _stocked(desk)
    for browser in (desk.browser(), await desk.signed_in("bob")):
        answer = await browser.get(path)

        assert {name: answer.headers.get(name) for name in HEADERS} == dict(HEADERS)
        assert answer.headers["cache-control"] == "no-store"


async def test_no_page_can_be_framed_or_run_scripts_of_others() -> None:
    policy = dict(one.split(" ", 1) for one in HEADERS["content-security-policy"].split("; "))

    assert policy["frame-ancestors"] == "'none'" and HEADERS["x-frame-options"] == "DENY"
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["base-uri"] == "'none'" and policy["form-action"] == "'self'"
    assert "unsafe" not in HEADERS["content-security-policy"]


async def test_static_files_can_be_kept_and_are_the_only_ones(desk: Desk) -> None:
    page = (await desk.browser().get("/signed-out")).text
    addresses = re.findall(r'(?:href|src)="(/static/[^"]+)"', page)

    assert {one.rpartition("/")[2] for one in addresses} == {"console.css", "console.js", "icon.svg"}
    for address in addresses:
        answer = await desk.browser().get(address)
        assert answer.status == 200 and "immutable" in answer.headers["cache-control"]
    for wrong in (
        "/static/0000000000000000/console.css",
        "/static/x/console.css",
        "/static/../server.py",
        addresses[0] + "x",
    ):
        assert (await desk.browser().get(wrong)).status == 404


async def test_pages_have_no_inline_script_or_style_and_load_nothing_from_outside(desk: Desk) -> None:
    await _stocked(desk)
    for who, path in (
        ("bob", "/holds"),
        ("bob", HOLD),
        ("audrey", EXCHANGE),
        ("audrey", "/charts"),
        ("audrey", "/exchanges"),
    ):
        page = (await (await desk.signed_in(who)).get(path)).text
        assert page.count("<script") == 1 and "<style" not in page
        assert not re.search(r"\s(style|on\w+)=", page)
        assert not re.search(r'(href|src|action)="(https?:)?//', page)


# Others' things -----------------------------------------------------------------------------------------------------


async def test_tenants_do_not_see_each_other(desk: Desk) -> None:
    await desk.approvals.add(1, person("ada", "analysts", tenant="north"))
    desk.exchanges.add(1, tenant="north")
    ours = await desk.signed_in(person("nick", "approvers", "auditors", tenant="north"))
    theirs = await desk.signed_in(person("sue", "approvers", "auditors", tenant="south"))
    program = await desk.with_token(person("sue", "approvers", "auditors", tenant="south"))
    gone = [f"/holds/{hold_id(9)}", f"/exchanges/{exchange_id(9)}"]

    assert [(await ours.get(path)).status for path in (HOLD, EXCHANGE)] == [200, 200]
    seen = [await theirs.get(path) for path in (HOLD, EXCHANGE)]
    never = [await theirs.get(path) for path in gone]
    # Byte for byte what is said of something that never was.
    assert [(one.status, one.text) for one in seen] == [(one.status, one.text) for one in never]
    assert {one.status for one in seen} == {404}
    for path, form in (
        (f"{HOLD}/resolution", TOLD),
        (f"{HOLD}/clear", {}),
        (f"{EXCHANGE}/payloads", TOLD),
        (f"{EXCHANGE}/verification", {}),
    ):
        assert (await theirs.post(path, form)).status == 404
        assert (await program.send(path, form)).status == 404
    assert "Nothing waits" in (await theirs.get("/holds")).text
    assert "None fits" in (await theirs.get("/exchanges")).text
    assert desk.approvals.actions == [] and desk.exchanges.readings == []


async def test_caller_sees_how_their_own_stands_with_their_own_token(desk: Desk) -> None:
    await desk.approvals.add(1, person("grace", "analysts"))
    grace, other = await desk.with_token(person("grace", "analysts")), await desk.with_token(person("eve", "analysts"))

    mine, theirs = await grace.get(f"/api/v1{HOLD}"), await other.get(f"/api/v1{HOLD}")

    assert mine.status == 200 and mine.json()["line"]["state"] == "pending" and mine.json()["line"]["is_own"]
    assert theirs.status == 403 and theirs.json()["error"]["code"] == "not_an_approver"

    bob = await desk.signed_in("bob")
    await bob.post(f"{HOLD}/resolution", {"answer": "deny", "justification": "Ask the desk of the north first."})
    denied, page = (
        await grace.get(f"/api/v1{HOLD}"),
        await (await desk.signed_in(person("grace", "analysts"))).get(HOLD),
    )
    for said in (denied.text, page.text):
        assert "denied" in said and "bob" not in said and "north" not in said


@pytest.mark.parametrize(
    "path",
    [
        "/holds/x", "/holds/" + "0" * 31, "/holds/" + "0" * 33, "/holds/" + "G" * 32, "/holds/" + "A" * 32, "/holds/%00", "/holds/../me",
        "/holds/" + "0" * 32 + "%0a", "/exchanges/x", "/exchanges/00000000-0000-4000-8000-00000000000G", "/exchanges/%2e%2e%2f",
        "/exchanges/' OR 1=1 --", "/holds/\u00e9", "/" + "a" * 4000,
    ],
)  # fmt: skip
async def test_garbage_ids_are_nowhere(desk: Desk, path: str) -> None:
    browser = await desk.signed_in(person("both", "approvers", "auditors"))

    for one in (await browser.get(path), await browser.get(f"/api/v1{path}")):
        assert one.status in {404, 200 if path.endswith("/me") else 404}
        assert "Traceback" not in one.text


async def test_health_is_what_the_house_says(desk: Desk) -> None:
    """Degraded is no 503: a probe would end a console that only somebody else can help."""
    assert (await desk.browser().get("/health")).status == 200
    desk.health = Health(None, ("evidence is not shipped",))
    answer = await desk.browser().get("/health")
    assert (answer.status, answer.text) == (200, "ok\ndegraded: evidence is not shipped\n")
    desk.health = Health("log: disk: OSError", ("evidence is not shipped",))
    answer = await desk.browser().get("/health")
    assert (answer.status, answer.text) == (503, "failed: log: disk: OSError\n")
