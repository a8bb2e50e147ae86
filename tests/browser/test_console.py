"""The console as people meet it: a real browser, a real server, the demo's issuer; rooms in memory."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from ext_proc.console import seen
from tests.browser.conftest import looked_at, page_of, sign_in
from tests.fakes.console_desk import named
from tests.fakes.console_rooms import exchange_id, hold_id, person

if TYPE_CHECKING:
    from playwright.async_api import Browser

    from tests.fakes.console_desk import Desk

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]
PHONE = {"width": 390, "height": 844}
DESK = {"width": 1280, "height": 900}
HOLD = f"/holds/{hold_id(1)}"
PROMPT = (
    "Dear team,\n\nplease write to [PERSON] at [EMAIL] that the invoice over 12,400 EUR is refused, and that the card "
    "[CREDIT_CARD] was charged twice. Keep it short and friendly, and do not promise a date.\n\nThanks"
)


async def test_inbox_is_live_and_one_is_approved_another_denied(chromium: Browser, desk: Desk) -> None:
    async with page_of(chromium, desk) as page:
        await sign_in(page, "bob")
        await page.get_by_text("Nothing waits").wait_for()
        await page.get_by_text("live", exact=True).wait_for()
        await page.evaluate("window.sameDocument = true")

        await desk.approvals.add(1, named("ada"))
        await page.get_by_role("link", name="ada").wait_for()
        await desk.approvals.add(2, person("grace", "analysts"), reason="Over the limit.")
        await page.get_by_text("2 calls wait").wait_for()
        assert await page.evaluate("window.sameDocument"), "the page was loaded again"
        assert "(2)" in await page.title()

        await page.get_by_role("link", name="ada").click()
        await page.get_by_label("Why", exact=True).fill("Checked with the customer.")
        await page.get_by_role("button", name="Approve").click()
        await page.get_by_text("Checked with the customer.").wait_for()
        assert await page.locator(".head .state").inner_text() == "approved"

        await page.goto("/holds")
        await page.get_by_role("link", name="grace").click()
        await page.get_by_label("Why", exact=True).fill("Not with this model.")
        await page.get_by_role("button", name="Deny").click()
        await page.get_by_text("Not with this model.").wait_for()
        assert await page.locator(".head .state").inner_text() == "denied"
        assert [one[2] for one in desk.approvals.actions] == [True, False]

        await page.get_by_role("button", name="Sign out").click()
        await page.get_by_role("heading", name="You are signed out").wait_for()


async def test_somebody_else_is_faster(chromium: Browser, desk: Desk) -> None:
    await desk.approvals.add(1, named("ada"))
    async with page_of(chromium, desk) as bob, page_of(chromium, desk) as carol:
        await sign_in(bob, "bob")
        await sign_in(carol, "carol", HOLD)
        await bob.get_by_role("link", name="ada").wait_for()

        await carol.get_by_label("Why", exact=True).fill("Mine to say.")
        await carol.get_by_role("button", name="Approve").click()
        await bob.get_by_text("Nothing waits").wait_for()

        await bob.goto(HOLD)
        assert await bob.get_by_role("button", name="Approve").count() == 0
        assert "Enough people have approved this already." in await bob.locator(".decide").inner_text()


async def test_nobody_approves_their_own(chromium: Browser, desk: Desk) -> None:
    await desk.approvals.add(1, replace(named("ada"), issuer=desk.issuer.url))
    async with page_of(chromium, desk) as page:
        await sign_in(page, "ada", HOLD)

        assert "Nobody may approve or deny a call of their own." in await page.locator(".decide").inner_text()
        assert await page.get_by_role("button", name="Approve").count() == 0


async def test_auditor_searches_opens_reads_and_verifies(chromium: Browser, desk: Desk) -> None:
    _stock_exchanges(desk)
    async with page_of(chromium, desk) as page:
        await sign_in(page, "audrey")
        await page.keyboard.press("/")
        assert await page.evaluate("document.activeElement.id") == "f-query"
        await page.get_by_label("Decision").select_option("deny")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_text("8 found").wait_for()

        await page.locator("[data-row]").first.click()
        await page.get_by_role("heading", name="What happened").wait_for()
        await page.get_by_label("Why you read them").fill("ticket 7")
        await page.get_by_role("button", name="Open the bodies").click()
        await page.get_by_role("heading", name="What came").wait_for()
        assert await page.locator("mark").first.get_attribute("title") == "EMAIL, mask"
        assert len(desk.exchanges.readings) == 1

        await page.goto(f"/exchanges/{exchange_id(1)}")
        await page.get_by_role("button", name="Verify it now").click()
        await page.get_by_role("heading", name="Nothing was changed").wait_for()


async def test_without_scripts(chromium: Browser, desk: Desk) -> None:
    await desk.approvals.add(1, named("ada"))
    async with page_of(chromium, desk, java_script_enabled=False) as page:
        await sign_in(page, "bob")
        await page.get_by_role("link", name="ada").click()
        await page.get_by_label("Why", exact=True).fill("By hand, without a script.")
        await page.get_by_role("button", name="Approve").click()

        await page.get_by_text("By hand, without a script.").wait_for()


async def test_by_keyboard_alone(chromium: Browser, desk: Desk) -> None:
    for number in (1, 2):
        await desk.approvals.add(number, person(f"caller-{number}", "analysts"))
    async with page_of(chromium, desk) as page:
        await sign_in(page, "bob")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"

        await page.keyboard.press("j")
        await page.keyboard.press("j")
        assert await page.evaluate("document.activeElement.id") == f"hold-{hold_id(2)}"
        await desk.approvals.add(3, person("caller-3", "analysts"))
        await page.get_by_text("3 calls wait").wait_for()
        assert await page.evaluate("document.activeElement.id") == f"hold-{hold_id(2)}", (
            "the focus went away with an update"
        )
        await page.keyboard.press("k")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**{HOLD}")

        # Everything that can be focused shows that it is.
        names = []
        while True:
            await page.keyboard.press("Tab")
            name, outline = await page.evaluate(
                "(one => [one.tagName, getComputedStyle(one).outlineStyle])(document.activeElement)"
            )
            if name == "BODY":
                break
            names.append(name)
            assert outline != "none", await page.evaluate("document.activeElement.outerHTML")
        assert names.count("BUTTON") == 3 and "TEXTAREA" in names and "DIV" in names


async def test_session_that_ends_is_said(chromium: Browser, desk: Desk) -> None:
    async with page_of(chromium, desk) as page:
        await sign_in(page, "bob")
        await page.get_by_text("live", exact=True).wait_for()
        desk.clock.move(hours=9)
        await desk.approvals.add(1, named("ada"))

        await page.get_by_text("signed out: reload to sign in").wait_for()
        assert await page.get_by_role("link", name="ada").count() == 0


async def test_prompts_run_nothing(chromium: Browser, desk: Desk) -> None:
    evil = '<img src=x onerror=alert(1)><script>alert(2)</script><a href="javascript:alert(3)">x</a>'
    await desk.approvals.add(1, person(evil, "analysts"), text=evil, model=evil, reason=evil, findings=((evil, 1),))
    async with page_of(chromium, desk) as page:
        await sign_in(page, "bob")
        await page.get_by_text("live", exact=True).wait_for()
        await desk.approvals.add(2, person(evil, "analysts"), reason=evil)  # by the script's way too
        await page.get_by_text("2 calls wait").wait_for()
        await page.goto(HOLD)

        assert await page.locator("main img, main script, a[href^=javascript]").count() == 0
        assert evil in await page.locator(".text").inner_text()


async def test_other_sites_cannot_frame_it(chromium: Browser, desk: Desk) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    app = web.Application()

    async def frame(_: web.Request) -> web.Response:
        return web.Response(text=f'<iframe src="{desk.url}/signed-out"></iframe>', content_type="text/html")

    app.router.add_get("/", frame)
    await desk._serve(app, listening)
    context = await chromium.new_context()
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{listening.getsockname()[1]}/")
    await page.wait_for_timeout(300)

    assert (
        await page.frames[1].locator("h1").count() == 0
        or "signed out" not in await page.frames[1].locator("body").inner_text()
    )
    await context.close()


# Every page, in light and dark, wide and narrow ---------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
async def test_pages_are_accessible_and_fit(chromium: Browser, desk: Desk, scheme: Any, size: Any) -> None:
    await _stock(desk)
    name = f"{scheme}-{size['width']}"
    async with page_of(chromium, desk, color_scheme=scheme, viewport=size, reduced_motion="reduce") as page:
        await looked_at(page, "/signed-out", f"{name}-signed-out")
        await sign_in(page, "bob")
        await page.get_by_text("live", exact=True).wait_for()
        await looked_at(page, None, f"{name}-inbox")
        for what, path in (
            ("hold", HOLD),
            ("hold-approved", f"/holds/{hold_id(4)}"),
            ("not-found", "/nowhere"),
            ("role", "/charts"),
            ("me", "/me"),
        ):
            await looked_at(page, path, f"{name}-{what}")
        await page.goto(HOLD)
        await page.get_by_role("button", name="Show it in clear").click()
        await looked_at(page, None, f"{name}-hold-clear")
    async with page_of(chromium, desk, color_scheme=scheme, viewport=size, reduced_motion="reduce") as page:
        await sign_in(page, "audrey")
        pages = ("exchanges", "charts", "policies", "verification")
        for path in (*(f"/{one}" for one in pages), f"/exchanges/{exchange_id(1)}"):
            await looked_at(page, path, f"{name}-{path.split('/')[1] if path.count('/') == 1 else 'exchange'}")
        await page.get_by_label("Why you read them").fill("ticket 7")
        await page.get_by_role("button", name="Open the bodies").click()
        await looked_at(page, None, f"{name}-payloads")
        await page.goto(f"/exchanges/{exchange_id(1)}")
        await page.get_by_role("button", name="Verify it now").click()
        await looked_at(page, None, f"{name}-verdict")


async def _stock(desk: Desk) -> None:
    await desk.approvals.add(
        1,
        named("ada"),
        text=PROMPT,
        clear=re.sub(r"\[\w+\]", "Grace", PROMPT),
        clear_to=("approvers",),
        count=2,
        findings=(("CREDIT_CARD", 1), ("EMAIL", 1), ("PERSON", 1)),
    )
    await desk.approvals.add(
        2,
        person("grace.hopper@example.org", "analysts"),
        reason="Tagged high-risk: answers may leave the company.",
        model="claude-opus-4",
        within_seconds=240,
    )
    await desk.approvals.add(3, named("ada"), reason="More than 100 pages.", findings=(), count=3)
    await desk.approvals.add(4, person("linus", "analysts"), text=PROMPT)
    bob = await desk.signed_in("bob")
    await bob.post(
        f"/holds/{hold_id(4)}/resolution",
        {"answer": "approve", "justification": "Looked at with legal; the customer agreed in writing."},
    )
    _stock_exchanges(desk)


def _stock_exchanges(desk: Desk) -> None:
    for number in range(1, 25):
        is_denied = number % 3 == 0
        desk.exchanges.add(
            number,
            decision="deny" if is_denied else "allow",
            outcome="denied" if is_denied else "completed",
            http_status=403 if is_denied else 200,
            code="policy_denied" if is_denied else None,
            hold_id=hold_id(4) if number == 1 else None,
        )
    now = desk.clock()
    lines = (" package inference.decision", "-default allow := true", "+default allow := false", " ")
    desk.exchanges.policies = (
        seen.Activation(
            now - timedelta(hours=2),
            "r-2026-11-25",
            "ab" * 32,
            "demo.example/affidavit/gw-0-1/20261125T1",
            is_current=True,
            differences=(
                seen.Difference("inference/decision.rego", "changed", lines),
                seen.Difference("data/models.json", "added"),
            ),
        ),
        seen.Activation(
            now - timedelta(days=3),
            "r-2026-11-22",
            "cd" * 32,
            "demo.example/affidavit/gw-0-1/20261122T1",
            is_current=False,
        ),
    )
    desk.exchanges.standing = seen.Standing(
        seen.Verified(
            now - timedelta(minutes=50),
            False,
            48_211,
            12,
            (
                seen.FindingSeen(
                    "object_missing",
                    "v1/events/dt=2026-11-24/hour=03/replica=gw-0-1/epoch=20261124T0/0000000000000000-0000000000000041-ab12.jsonl.zst",
                    "a digest names an object that is not there",
                ),
            ),
        ),
        (
            seen.Reconciled("2026-11-24", now, 40_112, 40_112, 0, (seen.Count("refused_by_envoy", 14),)),
            seen.Reconciled("2026-11-23", now, 39_004, 39_003, 1, (), (seen.Count("record_missing", 1),)),
        ),
        tuple(
            seen.Head(
                f"demo.example/affidavit/gw-0-{n}/20261125T110000000000-0a0b0c0d",
                4000 + n,
                "ef" * 32,
                now,
                None if n else "close",
            )
            for n in range(3)
        ),
    )
