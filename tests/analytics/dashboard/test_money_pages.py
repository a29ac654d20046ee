"""Cost, Latency and Routing in a real browser: the page's figures are the database's, and choosing changes them."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Locator, Page, expect

from analytics.clickhouse import Client
from analytics.query_engine import Query, QueryEngine
from analytics.reports import dollars
from contracts.settings import Settings
from tests.analytics.dashboard.test_cost import PERIOD, WHERE
from tests.analytics.dashboard.test_latency import WHOLE
from tests.support.browser import chromium, needs_chromium, page_of, serious_faults, settled
from tests.support.demo_dashboard import OPERATOR
from tests.support.demo_ledger import DemoLedger

pytestmark = needs_chromium
Demo = tuple[Client, DemoLedger]


@pytest.fixture(scope="module")
async def browser_page(demo_dashboard: str) -> AsyncIterator[Page]:
    """Signed in as an operator; nothing may go wrong in its console."""
    async with chromium() as browser, page_of(browser, demo_dashboard, OPERATOR, size=(1440, 1000)) as page:
        yield page


async def visit(page: Page, url: str, path: str, **other: str) -> None:
    period = "&".join(f"{name}={value}" for name, value in {**PERIOD, **other}.items())
    await page.goto(f"{url}/{path}{'&' if '?' in path else '?'}{period}")
    await settled(page)


def panel(page: Page, title: str) -> Locator:
    return page.locator("section.panel").filter(has=page.get_by_role("heading", name=title, exact=True))


def nano(demo: Demo, rest: str = "") -> int:
    statement = f"SELECT sum(cost_nano) FROM usage WHERE kind != 'waste' AND {WHERE} {rest}"
    return int(demo[0].query(statement).result_rows[0][0])


def exact(amount: int) -> str:
    """As the page writes it to the last nano-dollar."""
    whole, rest = dollars(amount).split(".")
    return f"${int(whole):,}.{rest.rstrip('0').ljust(2, '0')}"


async def spent(page: Page) -> str | None:
    return await page.locator("[data-figure=spent] [title]").get_attribute("title")


async def test_figures_are_the_databases(demo: Demo, demo_dashboard: str, browser_page: Page) -> None:
    await visit(browser_page, demo_dashboard, "cost")
    assert await spent(browser_page) == exact(nano(demo))
    statement = (
        f"SELECT tenant, sum(cost_nano) AS nano FROM usage WHERE kind != 'waste' AND {WHERE} GROUP BY 1 ORDER BY 2 DESC"
    )
    wanted = [[tenant, exact(amount)] for tenant, amount in demo[0].query(statement).result_rows]
    rows = panel(browser_page, "Top spenders").locator("tbody tr")
    found = [
        [await row.locator("td").first.inner_text(), await row.locator("[title]").get_attribute("title")]
        for row in await rows.all()
    ]
    assert found == wanted


async def test_group_and_filter_change_the_figures(demo: Demo, demo_dashboard: str, browser_page: Page) -> None:
    page = browser_page
    await visit(page, demo_dashboard, "cost")
    await page.get_by_role("group", name="Group by").get_by_role("button", name="Feature").click()
    spenders = panel(page, "Top spenders")
    await spenders.get_by_role("button", name="code-assistant").click()
    await page.get_by_role("button", name="Feature: code-assistant").wait_for()
    await settled(page)
    assert await spent(page) == exact(nano(demo, "AND feature = 'code-assistant'"))
    await page.get_by_role("button", name="Feature: code-assistant").click()
    await spenders.get_by_role("button", name="(none)").click()
    await page.get_by_role("button", name="Feature: (none)").wait_for()
    await settled(page)
    assert await spent(page) == exact(nano(demo, "AND feature = ''"))


async def test_the_shown_statement_gives_the_charts_numbers(
    demo: Demo, demo_dashboard: str, demo_settings: Settings, browser_page: Page
) -> None:
    await visit(browser_page, demo_dashboard, "cost?by=model")
    await panel(browser_page, "Spend over time").get_by_role("button", name="SQL").click()
    sql = await browser_page.locator("pre.sql").inner_text()
    await browser_page.get_by_role("button", name="Close").click()
    engine = QueryEngine(demo_settings)
    rows: list[dict[str, Any]] = json.loads(engine.ask(Query(sql, "JSON")).body)["data"]
    engine.close()
    assert sum(int(row["cost_nano"]) for row in rows) == nano(demo)


async def test_a_bar_leads_to_single_requests(demo: Demo, demo_dashboard: str, browser_page: Page) -> None:
    page = browser_page
    await visit(page, demo_dashboard, "cost?by=feature")
    over = panel(page, "Spend over time").locator(".u-over")
    box = await over.bounding_box()
    assert box
    place = {"x": box["width"] / 2, "y": box["height"] - 4}
    await over.hover(position=place)  # type: ignore[arg-type]
    await over.click(position=place)  # type: ignore[arg-type]
    await page.wait_for_url(re.compile("feature="))
    await settled(page)
    asked = {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}
    where = " AND ".join(
        f"event_time {sign} parseDateTime64BestEffort('{asked[name]}', 3, 'UTC')"
        for sign, name in ((">=", "since"), ("<", "until"))
    )
    statement = (
        f"SELECT idempotency_key, cost_nano FROM usage WHERE kind != 'waste' AND {where} "
        "AND feature = {feature:String} ORDER BY cost_nano DESC, event_time DESC, event_id LIMIT 20"
    )
    wanted = demo[0].query(statement, parameters={"feature": asked["feature"]}).result_rows
    rows = await panel(page, "Requests").locator("tbody tr").all()
    found = [[await row.locator("td").nth(place).inner_text() for place in (2, 9)] for row in rows]
    assert found == [[key, exact(amount)] for key, amount in wanted]
    assert 0 < len(found) <= 20


async def test_latency_and_routing(demo: Demo, demo_dashboard: str, browser_page: Page) -> None:
    await visit(browser_page, demo_dashboard, "latency", until="2026-11-21T09:00:00Z")
    statement = f"SELECT model, lane, count() FROM usage WHERE kind = 'usage' AND {WHOLE} GROUP BY 1, 2"
    wanted = {(model or "never ran", lane, f"{count:,}") for model, lane, count in demo[0].query(statement).result_rows}
    rows = await panel(browser_page, "By model and lane").locator("tbody tr").all()
    assert {tuple(await row.locator("td").all_inner_texts())[:3] for row in rows} == wanted

    await visit(browser_page, demo_dashboard, "routing")
    routed = f"kind IN ('usage', 'adjustment') AND startsWith(requested_model, 'auto') AND model != '' AND {WHERE}"
    count, amount = (
        demo[0].query(f"SELECT countIf(kind = 'usage'), sum(cost_nano) FROM usage WHERE {routed}").result_rows[0]
    )
    assert await browser_page.locator("[data-figure=requests] .stat-value").inner_text() == f"{count:,}"
    assert await browser_page.locator("[data-figure=cost] [title]").get_attribute("title") == exact(amount)


@pytest.mark.parametrize("path", ["cost", "latency", "routing"])
async def test_no_serious_accessibility_fault(demo_dashboard: str, browser_page: Page, path: str) -> None:
    await visit(browser_page, demo_dashboard, path)
    assert await serious_faults(browser_page) == []


@pytest.mark.parametrize("path", ["cost?by=feature", "latency", "routing"])
async def test_every_panel_shows_its_statement_and_gives_its_rows(
    demo_dashboard: str, browser_page: Page, path: str
) -> None:
    await visit(browser_page, demo_dashboard, path)
    if path.startswith("cost"):  # as soon as the budgets are there, one of them is looked into
        await expect(browser_page.get_by_role("heading", name=re.compile("^Budget of "))).to_be_visible()
        await settled(browser_page)
    titles = await browser_page.locator("section.panel h2").all_inner_texts()
    assert len(titles) == len(set(titles)) >= 5
    for title in titles:
        one = panel(browser_page, title)
        await one.get_by_role("button", name="SQL").click()
        assert (await browser_page.locator("pre.sql").inner_text()).lstrip().startswith(("SELECT", "WITH"))
        await browser_page.get_by_role("button", name="Close").click()
        for name in ("CSV", "JSON"):
            address = await one.get_by_role("link", name=f"{title}: {name}").get_attribute("href")
            answer = await browser_page.context.request.get(f"{demo_dashboard}{address}")
            assert answer.ok, (title, name)
            assert answer.headers["content-disposition"].startswith("attachment"), (title, name)
