"""The whole demo and a browser: a caller with the official client, an approver and an auditor at the console."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import openai
import pytest
import pytest_asyncio

from tests.browser.conftest import looked_at, page_of, sign_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from playwright.async_api import Browser, Page

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600)]
AFFIDAVIT = [sys.executable, "-m", "ext_proc"]
WHY = "Case 2026-17, spoken about with Ada."
ADDRESS = "ada.lovelace@example.org"


@dataclass
class Joined:
    """A demo that runs."""

    endpoints: Path
    where: dict[str, Any]

    @property
    def url(self) -> str:
        """The console."""
        return str(self.where["console"])

    def client(self, who: str) -> openai.AsyncOpenAI:
        """The official client, with that person's token."""
        command = [*AFFIDAVIT, "demo", "token", "--subject", who, "--groups", "analysts"]
        command += ["--endpoints", str(self.endpoints)]
        token = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
        return openai.AsyncOpenAI(base_url=f"{self.where['gateway']}/v1", api_key=token, max_retries=0, timeout=120)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def joined(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Joined]:
    endpoints = tmp_path_factory.mktemp("joined") / "demo.json"
    command = [*AFFIDAVIT, "demo", "--keep", "--endpoints", str(endpoints)]
    demo = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 180
        while not endpoints.exists():
            assert demo.returncode is None, "the demo ended"
            assert time.monotonic() < deadline, "the demo does not get ready"
            await asyncio.sleep(0.2)
        yield Joined(endpoints, json.loads(endpoints.read_text()))
        demo.terminate()
        assert await asyncio.wait_for(demo.wait(), 90) == 0
    finally:
        if demo.returncode is None:
            demo.kill()
            await demo.wait()


async def _asked(client: openai.AsyncOpenAI, text: str) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return await client.chat.completions.with_raw_response.create(
        model="demo-restricted", max_tokens=4, messages=messages
    )


async def _opened(page: Page) -> None:
    """The one call that waits, as soon as it shows: the page is not loaded again for it."""
    assert await page.evaluate("window.sameDocument"), "the inbox was loaded again"
    await page.locator("[id^=hold-]").first.click()
    await page.get_by_label("Why", exact=True).wait_for()


async def test_a_call_waits_until_somebody_at_the_console_agrees(chromium: Browser, joined: Joined) -> None:
    async with page_of(chromium, joined) as bob:
        await sign_in(bob, "bob")
        await bob.get_by_text("live", exact=True).wait_for()
        await bob.evaluate("window.sameDocument = true")
        waiting = asyncio.create_task(_asked(joined.client("ada"), f"Write to {ADDRESS}."))
        await bob.get_by_text("1 call waits").wait_for()
        await looked_at(bob, None, "joined-inbox")
        await _opened(bob)
        shown = await bob.locator("main").inner_text()
        assert "demo-restricted" in shown and ADDRESS not in shown and "Write to" in shown
        await looked_at(bob, None, "joined-hold")
        assert not waiting.done(), "the call did not wait"

        await bob.get_by_label("Why", exact=True).fill(WHY)
        await bob.get_by_role("button", name="Approve").click()
        await bob.get_by_text(WHY).wait_for()
        answer = await waiting
        assert answer.parse().choices[0].message.content

    exchange_id = answer.headers["x-affidavit-exchange"]
    async with page_of(chromium, joined) as audrey:
        await sign_in(audrey, "audrey")
        await _found(audrey, exchange_id)
        await audrey.locator("[data-row]").first.click()
        await audrey.get_by_role("heading", name="What happened").wait_for()
        told = await audrey.locator("main").inner_text()
        assert exchange_id in told and "approved" in told.lower()
        await looked_at(audrey, None, "joined-exchange")

        await audrey.get_by_label("Why you read them").fill("ticket 7")
        await audrey.get_by_role("button", name="Open the bodies").click()
        await audrey.get_by_role("heading", name="What came").wait_for()
        assert ADDRESS in await audrey.locator("main").inner_text()
        assert await audrey.locator("mark").first.get_attribute("title") == "EMAIL, mask"

        await audrey.goto(f"/exchanges/{exchange_id}")
        await audrey.get_by_role("button", name="Verify it now").click()
        await audrey.get_by_role("heading", name="Nothing was changed").wait_for()
        await looked_at(audrey, None, "joined-verdict")


async def test_a_denied_call_is_refused_and_told_apart(chromium: Browser, joined: Joined) -> None:
    async with page_of(chromium, joined) as bob:
        await sign_in(bob, "bob")
        await bob.get_by_text("live", exact=True).wait_for()
        await bob.evaluate("window.sameDocument = true")
        waiting = asyncio.create_task(_asked(joined.client("ada"), "Name a colour."))
        await bob.get_by_text("1 call waits").wait_for()
        await _opened(bob)
        await bob.get_by_label("Why", exact=True).fill("Not with this model, and not today.")
        await bob.get_by_role("button", name="Deny").click()
        await bob.get_by_text("Not with this model, and not today.").wait_for()
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await waiting
        assert refused.value.code == "approval_denied"


async def _found(page: Page, text: str) -> None:
    """Search until the record was shipped: its file is sealed after some seconds."""
    for _ in range(60):
        await page.goto(f"/exchanges?query={text}&outcome=completed")
        if await page.locator("[data-row]").count():
            return
        await asyncio.sleep(1)
    pytest.fail(f"no exchange {text}: {await page.locator('main').inner_text()}")
