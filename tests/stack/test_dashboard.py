"""The dashboard of a running stack: its figures are Kafka's and ClickHouse's, and what happens shows up by itself."""

import re
from collections.abc import Awaitable, Callable

import httpx
import openai
import pytest
from playwright.async_api import expect

from contracts.settings import Settings
from millrace.keys import create_key
from millrace.stack_file import StackFile
from tests.support.browser import chromium, needs_chromium, page_of, settled
from tests.support.until import until

pytestmark = pytest.mark.stack
Rows = list[tuple[object, ...]]


@pytest.fixture
async def operator_key(stack_settings: Settings, stack: StackFile) -> str:
    """As soon as the dashboard knows it."""
    secret = (await create_key(stack_settings, "operator", operator=True)).secret
    async with httpx.AsyncClient(base_url=stack.dashboard_url or "") as http:

        async def known() -> bool:
            return (await http.post("/api/session", json={"key": secret})).status_code == httpx.codes.OK

        await until(known)
    return secret


async def test_the_flow_is_kafkas_and_the_ledgers(
    sdk: openai.AsyncOpenAI, stack: StackFile, operator_key: str, ledger: Callable[..., Awaitable[Rows]]
) -> None:
    headers = {"Idempotency-Key": "dashboard-flow"}
    messages = [{"role": "user", "content": "hello"}]
    await sdk.chat.completions.create(model="small", messages=messages, extra_headers=headers)  # type: ignore[arg-type]
    await ledger("SELECT 1 FROM usage WHERE idempotency_key = 'dashboard-flow'", 1)
    async with httpx.AsyncClient(base_url=stack.dashboard_url or "", timeout=60) as http:
        await http.post("/api/session", json={"key": operator_key})
        seen: dict[str, dict[str, object]] = {}

        async def at_rest() -> bool:
            rows = (await http.get("/api/flow/now")).json()["rows"]
            seen.update({row["id"]: row for row in rows})
            return all(row["lag"] in (0, None) for row in rows)

        await until(at_rest)
        told = (await http.get("/api/flow/now")).json()
        one = (await http.get("/api/requests/one", params={"tenant": "acme", "key": "dashboard-flow"})).json()
        limits = (await http.get("/api/limits/usage", params={"tenant": "acme"})).json()["rows"]
    assert told["problem"] == ""
    assert int(str(seen["ingress"]["records"])) > 0
    assert {row["model"] for row in told["workers"]} == {"small", "large"}
    running = {str(child.pid) for child in stack.children if child.name.startswith("worker")}
    assert running <= {row["worker"].split("-")[-2] for row in told["workers"]}
    assert one["life"]["runs"][0]["steps"][-1]["step"] == "stored"
    assert one["rows"][0]["outcome"] == "succeeded"
    assert {row["tenant"] for row in limits} == {"acme"}
    assert next(row for row in limits if row["measure"] == "tokens_per_day")["used"] > 0


@needs_chromium
async def test_a_request_shows_up_by_itself(sdk: openai.AsyncOpenAI, stack: StackFile, operator_key: str) -> None:
    async with chromium() as browser, page_of(browser, stack.dashboard_url or "", operator_key) as page:
        await expect(page.locator(".node[data-id=settle] .rate")).to_contain_text("/s")
        await expect(page.locator(".node.workers").first).to_contain_text(re.compile(r"[1-9]\d* of \d+ beating"))
        await page.goto(f"{stack.dashboard_url}/requests?key=dashboard-live")
        await settled(page)
        await page.get_by_text("No request fits").wait_for()
        messages = [{"role": "user", "content": "hello"}]
        headers = {"Idempotency-Key": "dashboard-live"}
        await sdk.chat.completions.create(model="small", messages=messages, extra_headers=headers)  # type: ignore[arg-type]
        await page.get_by_role("link", name="dashboard-live").click()
        await expect(page.locator(".life li").last).to_contain_text("In the ledger")
