"""Debian's Chromium on a console that runs. Where it cannot be had, tests say so; in CI they fail."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest_asyncio

from tests.fakes.console_desk import Desk
from tests.needed import absent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from playwright.async_api import Browser, Page

CHROMIUM = Path("/usr/bin/chromium")
_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
PATIENCE_MS = 120_000
"""Machines are shared: a test may take long, it may not hang."""
OUT = Path(__file__).parent / "out"
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


class Served(Protocol):
    """A console that runs somewhere."""

    @property
    def url(self) -> str: ...


@pytest_asyncio.fixture(loop_scope="module")
async def desk() -> AsyncIterator[Desk]:
    async with Desk() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        absent("Chromium: apt-get install chromium")
    try:
        from playwright.async_api import async_playwright
    except ImportError:
        absent("playwright: pip install playwright")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def page_of(browser: Browser, desk: Served, **options: Any) -> AsyncIterator[Page]:
    """A window of its own. Whatever a page complains of (a policy that is broken, a script that fails), or a dialog that
    opens, fails the test."""
    context = await browser.new_context(base_url=desk.url, **options)
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    yield page
    await context.close()
    # An answer of 4xx that a test wants is a line too.
    assert [one for one in complaints if "the server responded with a status of 4" not in one] == []


async def sign_in(page: Page, who: str, to: str = "/") -> None:
    """Through the demo's issuer."""
    await page.goto(f"/login?to={to}")
    await page.get_by_role("button", name=who, exact=True).click()
    await page.locator(".who").wait_for()
    assert "/login" not in page.url, await page.locator("main").inner_text()


async def looked_at(page: Page, path: str | None, name: str) -> None:
    """Kept as a picture; it fits the window, and axe finds nothing. ``path`` None: the page as it stands."""
    if path is not None:
        await page.goto(path)
    await page.wait_for_load_state("load")
    for one in await page.locator("main details").all():
        await one.evaluate("one => { one.open = true; }")
    OUT.mkdir(exist_ok=True)
    await page.screenshot(path=OUT / f"{name}.png", full_page=True)
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name}: wider than the window"
    await page.evaluate(_axe())
    found = await page.evaluate("tags => axe.run(document, {runOnly: tags})", list(_RULES))
    assert len(found["passes"]) > 10
    told = [
        (one["id"], [node["html"][:200] + str(node["any"][:1]) for node in one["nodes"][:3]])
        for one in found["violations"]
    ]
    assert told == [], name


@cache
def _axe() -> str:
    return resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
