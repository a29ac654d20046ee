"""The dashboard in a real browser: every view, light and dark, wide and narrow; figures, live rows, decisions."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, Page, Response, Route, expect

from analytics.clickhouse import Client
from analytics.dashboard.flow import Flow
from analytics.dashboard.kafka_offsets import Moment
from analytics.dashboard.views import VIEWS
from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.settings import Settings
from tests.support.browser import DESKTOP, PHONE, chromium, needs_chromium, page_of, serious_faults, settled
from tests.support.busy_desk import BusyDesk
from tests.support.demo_dashboard import ACME, OPERATOR, serving_demo
from tests.support.demo_ledger import DemoLedger
from tests.support.usage import as_records, as_values, make_events

pytestmark = needs_chromium
Demo = tuple[Client, DemoLedger]
PERIOD = "since=2026-11-15T00:00:00Z&until=2026-11-18T00:00:00Z"
WHERE = "kind = 'usage' AND event_time >= '2026-11-15 00:00:00' AND event_time < '2026-11-18 00:00:00'"
OPERATORS = [view.id for view in VIEWS]
MONEY = ("cost", "latency", "routing")  # in the light these are looked at in test_money_pages.py


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest.fixture
def desk() -> BusyDesk:
    return BusyDesk()


@pytest.fixture
async def url(demo: Demo, demo_settings: Settings, desk: BusyDesk) -> AsyncIterator[str]:
    async with serving_demo(demo_settings, desk) as url:
        yield url


async def too_wide(page: Page) -> int:
    """Pixels that stand out at the right."""
    return int(await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")])
async def test_every_view(demo: Demo, url: str, browser: Browser, size: tuple[int, int], scheme: str) -> None:
    """Nothing in the console, nothing that keeps people out, nothing beyond the screen."""
    ((tenant, key),) = (
        demo[0].query(f"SELECT tenant, idempotency_key FROM usage WHERE {WHERE} AND outcome = 'succeeded' LIMIT 1")
    ).result_rows
    async with page_of(browser, url, OPERATOR, size=size, scheme=scheme) as page:
        for path in [*OPERATORS, f"requests/{tenant}/{key}"]:
            await page.goto(f"{url}/{path}?{PERIOD}")
            await settled(page)
            assert await too_wide(page) <= 0, path
            if scheme == "dark" or (size == DESKTOP and path not in MONEY):
                assert await serious_faults(page) == [], path


async def test_signing_in_and_out(url: str, browser: Browser) -> None:
    page = await browser.new_page()
    await page.goto(f"{url}/requests")
    assert await serious_faults(page) == []
    await page.get_by_label("API key").fill("mr_wrong")
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("alert")).to_have_text("That key is unknown or was revoked.")
    await page.get_by_label("API key").fill(OPERATOR)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Requests")
    await page.get_by_role("button", name="Sign out").click()
    await page.get_by_label("API key").wait_for()
    await page.context.close()


async def test_a_tenant_is_offered_only_their_views(url: str, browser: Browser) -> None:
    async with page_of(browser, url, ACME) as page:
        await settled(page)
        names = await page.locator("nav a").all_inner_texts()
        assert names == [view.title for view in VIEWS if not view.operators_only]
        await page.goto(f"{url}/requests?{PERIOD}")
        await settled(page)
        await expect(page.locator("tbody tr")).to_have_count(50)
        assert "globex" not in await page.content()


async def test_the_toggle_holds(url: str, browser: Browser) -> None:
    async with page_of(browser, url, OPERATOR, scheme="light") as page:
        await page.get_by_role("button", name="Light or dark").click()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"
        await page.reload()
        await page.locator("nav a").first.wait_for()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"


async def test_found_requests_and_figures_are_the_databases(demo: Demo, url: str, browser: Browser) -> None:
    async with page_of(browser, url, OPERATOR) as page:
        await page.goto(f"{url}/requests?{PERIOD}")
        await settled(page)
        await page.get_by_label("Outcome").select_option("failed")
        await expect(page.locator("tbody tr .badge").first).to_have_text("failed")
        wanted = demo[0].query(
            f"SELECT idempotency_key, user, trace_id FROM usage WHERE {WHERE} AND outcome = 'failed' "
            "ORDER BY event_time DESC, event_id LIMIT 50"
        )
        keys = [await one.get_attribute("title") for one in await page.locator("tbody [title]").all()]
        assert keys == [key for key, *_ in wanted.result_rows]
        await page.locator("tbody a").first.click()
        await expect(page.locator(".life li").first).to_contain_text("Accepted")
        for known in wanted.result_rows[0][1:]:
            await expect(page.locator(".facts")).to_contain_text(known)


async def test_rows_that_come_appear_by_themselves(embedded: Settings, ledger: Ledger, browser: Browser) -> None:
    async with serving_demo(embedded) as url, page_of(browser, url, OPERATOR) as page:
        await page.goto(f"{url}/requests?since=3650d")
        await page.get_by_text("No request ended in this period").wait_for()
        take_in(ledger, as_records(as_values(make_events(5))))
        await expect(page.locator("tbody tr")).to_have_count(5)


async def test_limits_show_what_is_used(url: str, browser: Browser) -> None:
    async with page_of(browser, url, OPERATOR) as page:
        await page.goto(f"{url}/limits")
        await settled(page)
        card = page.locator(".account-card").filter(has=page.get_by_role("heading", name="globex", exact=True))
        await expect(card.locator("[data-measure=dollars_per_day]")).to_contain_text("$2.31 of $2.50 a day")
        await expect(card.locator("[data-measure=dollars_per_day] .share")).to_have_text("92 %")
        full = page.locator(".account-card").filter(has=page.get_by_role("heading", name="acme · ann"))
        await expect(full.locator("[data-tone=bad]")).to_contain_text("200k of 200k tokens a day")


async def test_nothing_is_redriven_without_a_confirm(url: str, desk: BusyDesk, browser: Browser) -> None:
    async with page_of(browser, url, OPERATOR) as page:
        await page.goto(f"{url}/dead-letters")
        await settled(page)
        await page.get_by_role("button", name="Inspect 0.2").click()
        await expect(page.get_by_role("dialog")).to_contain_text("It killed its worker three times.")
        await page.get_by_role("button", name="Close").click()
        await page.get_by_label("Choose 0.2").check()
        await page.get_by_role("button", name="Redrive").click()
        await page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
        assert desk.redriven == []
        await page.get_by_role("button", name="Redrive").click()
        await page.get_by_role("dialog").get_by_role("button", name="Redrive").click()
        await expect(page.locator("tbody tr")).to_have_count(2)
        assert desk.redriven == ["0.2"]


REPLAY = "millrace replay millrace/samples/azure_llm_2023_conv_1000.csv --speed 10"
FIRST = {  # what to do, by view
    "flow": ("Make a key, then send a request", REPLAY),
    "cost": ("send requests", REPLAY),
    "latency": ("send requests", REPLAY),
    "routing": ("Ask for model auto",),
    "requests": ("replay real traffic", REPLAY),
    "limits": ("Counters appear with a tenant's first request", "millrace limits set"),
    "dead-letters": ("Records that a stage can't understand come here",),
}


@pytest.fixture
def quiet_kafka(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers, and nobody has written anything."""

    async def nothing_yet(flow: Flow) -> Moment:
        moment = Moment(time.time(), {flow._topics.requests: 0}, {}, {})
        flow._moments.append(moment)
        flow._past.append((moment.at, moment.ends))
        return moment

    monkeypatch.setattr(Flow, "_from_kafka", nothing_yet)


@pytest.mark.usefixtures("quiet_kafka")
async def test_an_empty_system_says_what_to_do_first(embedded: Settings, ledger: Ledger, browser: Browser) -> None:
    assert list(FIRST) == OPERATORS
    async with serving_demo(embedded) as url, page_of(browser, url, OPERATOR) as page:
        for path, said in FIRST.items():
            await page.goto(f"{url}/{path}")
            await settled(page)
            for words in said:
                await expect(page.locator("main")).to_contain_text(words)


async def test_the_first_paint_waits_for_no_data_and_for_little_else(url: str, browser: Browser) -> None:
    """How long it takes is the machine's matter; this is what keeps it short on any."""
    page = await browser.new_page()
    assert (await page.context.request.post(f"{url}/api/session", data={"key": OPERATOR})).ok
    answered = asyncio.Event()
    loaded: list[Response] = []

    async def late(route: Route) -> None:
        await answered.wait()
        await route.fallback()

    await page.route(re.compile(r"/api/(?!session|live)"), late)
    page.on("response", lambda response: loaded.extend([response]))
    await page.goto(f"{url}/cost")
    await page.evaluate(PAINTED)
    await expect(page.get_by_role("heading", level=1)).to_have_text("Cost")
    await expect(page.locator(".panel[data-state=loading]").first).to_be_visible()
    assert {urlsplit(one.url).netloc for one in loaded} == {urlsplit(url).netloc}
    files = [one for one in loaded if "/api/" not in one.url]
    assert sum([(await one.request.sizes())["responseBodySize"] for one in files]) < MOST_BYTES
    answered.set()
    await settled(page)
    await page.context.close()


PAINTED = """() => new Promise((done) => new PerformanceObserver((list) => {
  if (list.getEntriesByName("first-contentful-paint").length) done();
}).observe({ type: "paint", buffered: true }))"""
MOST_BYTES = 100_000  # compressed: all that a first visit needs
