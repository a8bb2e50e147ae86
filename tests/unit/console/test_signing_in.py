"""OpenID Connect's code flow, sessions, and where they lead."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ext_proc.console.people import Role
from ext_proc.console.routes import safe_return
from ext_proc.console.sessions import SESSIONS_MAX, MemorySessions
from ext_proc.console.settings import Client, Settings
from ext_proc.console.signing_in import Attempts, SignInRefused, challenge_of
from ext_proc.errors import ConfigError
from tests.fakes.console_rooms import NOW, person

if TYPE_CHECKING:
    from tests.fakes.console_desk import Desk


async def test_whole_way_in(desk: Desk) -> None:
    browser = desk.browser()

    landed = await browser.sign_in("bob", "/holds")

    assert (landed.status, landed.headers["location"]) == (303, "/holds")
    assert (await browser.get("/holds")).status == 200
    cookie = landed.headers.getall("set-cookie")
    session = next(one for one in cookie if one.startswith("affidavit="))
    assert "HttpOnly" in session and "SameSite=Lax" in session and "Path=/" in session


async def test_asks_with_pkce_state_and_nonce(desk: Desk) -> None:
    begun = await desk.browser().get("/login")
    asked = parse_qs(urlsplit(begun.headers["location"]).query)

    assert begun.status == 303
    assert asked["response_type"] == ["code"] and asked["code_challenge_method"] == ["S256"]
    assert asked["scope"][0].split()[0] == "openid"
    assert {len(asked[name][0]) for name in ("state", "nonce", "code_challenge")} == {43}


def test_challenge_is_that_of_the_standard() -> None:
    # RFC 7636, appendix B.
    assert challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


async def test_session_id_is_new_at_every_sign_in(desk: Desk) -> None:
    """Fixation: an id that somebody planted, or had before, is never the one that is signed in."""
    browser = desk.browser()
    browser.jar["affidavit"] = "planted-by-somebody-else"

    await browser.sign_in("bob")

    first = browser.jar["affidavit"]
    planted = desk.browser()
    planted.jar["affidavit"] = "planted-by-somebody-else"
    assert first != "planted-by-somebody-else"
    assert (await planted.get("/holds")).status == 303

    begun = await desk.browser().get("/login")  # the same browser signs in again, in another tab that was signed out
    again = desk.browser()
    again.jar = {"affidavit": first}
    sealed = begun.headers.getall("set-cookie")[0].partition("=")[2].partition(";")[0]
    again.jar["affidavit-attempt"] = sealed
    await again.get(await again.vouched(begun.headers["location"], "carol"))
    old = desk.browser()
    old.jar["affidavit"] = first
    assert again.jar["affidavit"] != first
    assert (await old.get("/holds")).status == 303


async def test_answer_counts_only_in_the_browser_that_asked(desk: Desk) -> None:
    """Somebody else's answer, followed here, signs nobody in (login CSRF)."""
    theirs, mine = desk.browser(), desk.browser()
    begun = await theirs.get("/login")
    back = await theirs.vouched(begun.headers["location"], "carol")
    await mine.get("/login")

    answer = await mine.get(back)

    assert answer.status == 400 and "no_attempt" in answer.text
    assert "affidavit" not in mine.jar


async def test_answer_without_a_beginning(desk: Desk) -> None:
    answer = await desk.browser().get("/login/callback", params={"code": "x", "state": "y"})

    assert answer.status == 400 and 'href="/login"' in answer.text


async def test_code_works_once(desk: Desk) -> None:
    browser = desk.browser()
    begun = await browser.get("/login")
    attempt = browser.jar["affidavit-attempt"]
    back = await browser.vouched(begun.headers["location"], "bob")
    assert (await browser.get(back)).status == 303

    browser.jar = {"affidavit-attempt": attempt}
    again = await browser.get(back)

    assert again.status == 400 and "code_refused" in again.text


async def test_issuer_says_no(desk: Desk) -> None:
    browser = desk.browser()
    begun = await browser.get("/login")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]

    answer = await browser.get("/login/callback", params={"error": "access_denied", "state": state})

    assert answer.status == 403 and "issuer_said_no" in answer.text


async def test_answer_of_another_issuer(desk: Desk) -> None:
    browser = desk.browser()
    begun = await browser.get("/login")
    back = await browser.vouched(begun.headers["location"], "bob")

    answer = await browser.get(
        back.replace(f"iss={desk.issuer.url.replace(':', '%3A').replace('/', '%2F')}", "iss=evil")
    )

    assert answer.status == 400 and "affidavit" not in browser.jar


@pytest.mark.parametrize(("types", "knows", "status"), [
    (["pairwise"], True, 503), (["pairwise"], False, 303), (["public", "pairwise"], True, 303), (None, True, 303),
])  # fmt: skip
async def test_issuer_that_names_people_anew_for_each_client(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, types: Any, knows: bool, status: int
) -> None:
    """Then a caller is a stranger here, and could approve a call of their own."""
    asked = desk.provider._asked

    async def told(*of: Any) -> tuple[int, dict[str, Any]]:
        code, said = await asked(*of)
        return code, {**said, "subject_types_supported": types}

    monkeypatch.setattr(desk.provider, "_asked", told)
    monkeypatch.setattr(desk.provider, "_knows_by_sub", knows)
    answer = await desk.browser().get("/login")

    assert answer.status == status
    assert ("claims.subject" in answer.text) == (status == 503)


async def test_attempt_is_too_old(desk: Desk) -> None:
    browser = desk.browser()
    begun = await browser.get("/login")
    back = await browser.vouched(begun.headers["location"], "bob")
    desk.clock.move(minutes=11)

    assert (await browser.get(back)).status == 400


@pytest.mark.parametrize("sealed", ["", "x", "gAAAAA" + "A" * 80, "\u00e9"])
def test_attempt_that_is_none(sealed: str) -> None:
    with pytest.raises(SignInRefused):
        Attempts().found(sealed, "state", NOW)


def test_attempt_of_another_process() -> None:
    attempt, sealed = Attempts().begin("/", NOW)

    with pytest.raises(SignInRefused):
        Attempts().found(sealed, attempt.state, NOW)


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "affidavit"},
        {"aud": ["console", "other"]},
        {"azp": "other"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"sub": ""},
        {"tid": 7},
        {"tid": ["north"]},
        {"tid": ""},
    ],
    ids=str,
)
async def test_id_token_that_is_not_for_us(desk: Desk, claims: dict[str, Any]) -> None:
    browser = desk.browser()
    begun = await browser.get("/login")
    asked = {name: value[0] for name, value in parse_qs(urlsplit(begun.headers["location"]).query).items()}

    async def token(_: web.Request) -> web.Response:
        whole = {"aud": "console", "nonce": asked["nonce"], **claims}
        return web.json_response({"id_token": desk.issuer.mint("bob", ["approvers"], **whole)})

    app = web.Application()
    app.router.add_post("/token", token)
    async with TestServer(app, host="127.0.0.1") as server:
        desk.provider._endpoints = {
            "authorization_endpoint": "http://127.0.0.1",
            "token_endpoint": str(server.make_url("/token")),
        }
        answer = await browser.get("/login/callback", params={"code": "c", "state": asked["state"]})

    assert answer.status == 400 and "token_refused" in answer.text
    assert "affidavit" not in browser.jar


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"id_token": 1}', b"x" * 300_000])
async def test_issuer_that_answers_nonsense(desk: Desk, body: bytes) -> None:
    browser = desk.browser()
    begun = await browser.get("/login")
    state = parse_qs(urlsplit(begun.headers["location"]).query)["state"][0]

    async def token(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_post("/token", token)
    async with TestServer(app, host="127.0.0.1") as server:
        desk.provider._endpoints = {
            "authorization_endpoint": "http://127.0.0.1",
            "token_endpoint": str(server.make_url("/token")),
        }
        answer = await browser.get("/login/callback", params={"code": "c", "state": state})

    assert answer.status == 503 and "issuer_unavailable" in answer.text


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"token_endpoint": "http://user@127.0.0.1/token"},
        {"token_endpoint": None},
    ],
    ids=str,
)
async def test_discovery_that_leads_elsewhere(desk: Desk, told: dict[str, Any]) -> None:
    async def asked(*_: object) -> tuple[int, dict[str, Any]]:
        here = desk.issuer.url
        whole = {"issuer": here, "authorization_endpoint": f"{here}/authorize", "token_endpoint": f"{here}/token"}
        return 200, {**whole, **told}

    desk.provider._asked = asked  # type: ignore[method-assign,assignment]

    answer = await desk.browser().get("/login")

    assert answer.status == 503 and "location" not in answer.headers


@pytest.mark.parametrize(
    "to",
    [
        "//evil.example", "/\\evil.example", "https://evil.example", "javascript:alert(1)", "/%2f/evil.example", "/holds\n",
        "/holds?x=\r\nset-cookie:a", "/login", "/logout", "/static/x", "/holds/rows", "/holds/changes", "/nowhere", "holds",
        "/holds#x", "/holds?<script>", "///holds", "/holds//evil.example", "/" * 3000, "", None, "/@evil.example", "/.evil.example",
    ],
)  # fmt: skip
def test_no_open_redirect(to: str | None) -> None:
    assert safe_return(to) in {"/", "/holds"}


@pytest.mark.parametrize(
    "to",
    [
        "/", "/holds", "/holds?after=00000000000000000000000000000001&limit=50", "/holds/" + "0" * 32, "/me",
        "/exchanges?since=2026-11-25T10:00&entity=EMAIL&query=", "/exchanges/00000000-0000-4000-8000-000000000001",
    ],
)  # fmt: skip
def test_own_pages_are_returned_to(to: str) -> None:
    assert safe_return(to) == to


async def test_login_leads_nowhere_else_also_when_signed_in(desk: Desk) -> None:
    browser = await desk.signed_in("bob")

    answer = await browser.get("/login", params={"to": "//evil.example"})

    assert answer.headers["location"] == "/"


async def test_page_asks_to_sign_in_and_comes_back(desk: Desk) -> None:
    answer = await desk.browser().get("/exchanges?entity=EMAIL")

    assert answer.status == 303
    assert parse_qs(urlsplit(answer.headers["location"]).query)["to"] == ["/exchanges?entity=EMAIL"]


async def test_logout_ends_the_session_at_the_server(desk: Desk) -> None:
    browser = await desk.signed_in("bob")

    out = await browser.post("/logout", {})

    assert (out.status, out.headers["location"]) == (303, "/signed-out")
    assert (await browser.get("/holds")).status == 303
    assert (await desk.browser().get("/signed-out")).status == 200


async def test_session_ends_idle_absolutely_and_with_the_token() -> None:
    sessions = MemorySessions(timedelta(minutes=30), timedelta(hours=2))
    long, short = person("bob"), person("carol", expires_at=NOW + timedelta(minutes=10))
    busy, idle, brief = [await sessions.begin(who, NOW) for who in (long, long, short)]

    assert await sessions.find(brief, NOW + timedelta(minutes=9)) is not None
    assert await sessions.find(brief, NOW + timedelta(minutes=10)) is None
    for minutes in range(20, 120, 20):
        assert await sessions.find(busy, NOW + timedelta(minutes=minutes)) is not None
    assert await sessions.find(busy, NOW + timedelta(minutes=120)) is None
    assert await sessions.find(idle, NOW + timedelta(minutes=30)) is None


async def test_what_a_page_does_by_itself_keeps_no_session_alive() -> None:
    sessions = MemorySessions(timedelta(minutes=30))
    found = await sessions.begin(person("bob"), NOW)

    assert await sessions.find(found, NOW + timedelta(minutes=20), is_use=False) is not None
    assert await sessions.find(found, NOW + timedelta(minutes=31)) is None


async def test_sessions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ext_proc.console.sessions.SESSIONS_MAX", 3)
    sessions = MemorySessions()
    made = [await sessions.begin(person(str(n)), NOW) for n in range(4)]

    assert SESSIONS_MAX == 10_000
    assert [await sessions.find(one, NOW) is not None for one in made] == [False, True, True, True]


async def test_ids_are_kept_as_digests_only() -> None:
    sessions = MemorySessions()
    found = await sessions.begin(person("bob"), NOW)

    assert len(sessions._kept) == 1
    assert found not in repr(sessions._kept) and found.encode() not in sessions._kept


@pytest.mark.parametrize(
    "url",
    [
        "https://desk.example.com/",
        "ftp://x",
        "desk.example.com",
        "http://desk.example.com",
        "https://u@desk.example.com",
        "https://x/y",
    ],
)
def test_public_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigError):
        Settings(url, Client("c"), {Role.APPROVER: ("a",)})


async def test_https_cookies_are_for_this_host_only(desk: Desk) -> None:
    from ext_proc.console.guard import Guard

    guard = Guard(Settings("https://desk.example.com", Client("console"), {}), desk.console._rooms)
    response = web.Response()
    guard.give(response, guard.session_cookie, "x")

    told = response.cookies["__Host-affidavit"]
    assert told["secure"] and told["httponly"] and told["path"] == "/" and not told["domain"]
