"""A real Chromium, where there is one: pages of the dashboard, signed in, whose console must stay empty."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, async_playwright, expect

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
PATIENCE_MS = 120_000
_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
DESKTOP, PHONE = (1440, 900), (390, 844)
expect.set_options(timeout=PATIENCE_MS)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """With a profile of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS, timeout=PATIENCE_MS)
        yield browser
        await browser.close()


@asynccontextmanager
async def page_of(
    browser: Browser, url: str, key: str, *, size: tuple[int, int] = DESKTOP, scheme: str = "light"
) -> AsyncIterator[Page]:
    """Signed in, at the first view. Fails at its end when anything was said in the console."""
    width, height = size
    context = await browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # type: ignore[arg-type] # light or dark
        reduced_motion="reduce",
    )
    page = await context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    await page.goto(f"{url}/#key={key}")
    await page.locator("nav a").first.wait_for()
    yield page
    await context.close()
    assert wrong == []


async def settled(page: Page) -> None:
    """Every panel has its data."""
    await page.locator(".panel").first.wait_for()
    await expect(page.locator(".panel[data-state=loading]")).to_have_count(0)


async def serious_faults(page: Page) -> list[tuple[str, list[str]]]:
    """What axe finds that keeps people out: the rule, and where."""
    found = (await Axe().run(page)).response["violations"]
    return [
        (one["id"], [str(node["target"]) for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]
