"""The dashboard of a running stack: its figures are Kafka's and ClickHouse's, and what happens shows up by itself."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from uuid import uuid4

import httpx
import openai
import pytest
from playwright.async_api import expect

from analytics.dashboard.views import VIEWS
from contracts.settings import Settings
from millrace.demo import SAMPLE
from millrace.demo import _dashboard as demo_dashboard
from millrace.keys import create_key
from millrace.stack_file import StackFile
from tests.stack.test_dead_letters import put_aside
from tests.support.browser import chromium, needs_chromium, page_of, settled
from tests.support.commands import millrace
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


@pytest.fixture
async def operator(stack: StackFile, operator_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """Signed in, and able to write."""
    async with httpx.AsyncClient(base_url=stack.dashboard_url or "", timeout=60) as http:
        session = await http.post("/api/session", json={"key": operator_key})
        http.headers["X-CSRF-Token"] = session.json()["csrf"]
        yield http


async def test_a_dead_letter_is_redriven_from_the_page(
    stack: StackFile, operator: httpx.AsyncClient, ledger: Callable[..., Awaitable[Rows]]
) -> None:
    tenant = f"dlq-{uuid4().hex[:8]}"
    await put_aside(stack, "paged", tenant)
    await put_aside(stack, "dropped", tenant)

    async def letters() -> dict[str, dict[str, object]]:
        rows = (await operator.get("/api/dead-letters/list", params={"tenant": tenant})).json()["rows"]
        return {row["key"]: row for row in rows}

    found = await letters()
    assert found.keys() == {f"{tenant}:paged", f"{tenant}:dropped"}
    paged, dropped = found[f"{tenant}:paged"], found[f"{tenant}:dropped"]
    assert (paged["stage"], paged["topic"], paged["tenant"]) == ("dedupe", "requests", tenant)
    assert "hello" not in str(found), "what was asked is never shown"
    answer = await operator.post("/api/dead-letters/redrive", json={"ids": [paged["id"]]})
    assert (answer.json()["redriven"], answer.json()["rows"]) == (1, [])
    answer = await operator.post("/api/dead-letters/drop", json={"ids": [dropped["id"]]})
    assert answer.json()["dropped"] == 1
    assert await letters() == {}
    rows = "SELECT outcome, completion_tokens FROM usage WHERE tenant = {tenant:String}"
    assert await ledger(rows, 1, tenant=tenant) == [("succeeded", 7)]


MAY_BE_EMPTY = {"cost/budgets", "routing/escalations", "routing/shadows"}  # what a demo has not set up


async def test_every_view_has_data_after_a_demo(data_dir: Path) -> None:
    """`make demo KEEP=1` replays more of the same, and then does what is done here."""
    replayed = await millrace(data_dir, "replay", str(files("millrace") / SAMPLE), "--speed", 40, "--limit", 60)
    assert replayed.status == 0, replayed
    url, _, key = (await demo_dashboard(data_dir)).removeprefix("dashboard ").partition("/#key=")
    row = {"tenant": "", "key": ""}
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:

        async def known() -> bool:
            return (await http.post("/api/session", json={"key": key})).status_code == httpx.codes.OK

        async def told(path: str) -> bool:
            return bool((await http.get(f"/api/{path}", params=row)).json()["rows"])

        await until(known)
        (newest, *_) = (await http.get("/api/requests/list")).json()["rows"]
        row |= {"key": newest["idempotency_key"]}
        paths = [f"{view.id}/{one.name}" for view in VIEWS for one in view.endpoints if one.method == "GET"]
        empty = {path for path in paths if path not in MAY_BE_EMPTY}

        async def none_empty() -> bool:
            empty.difference_update([path for path in sorted(empty) if await told(path)])
            return not empty

        try:
            await until(none_empty)
        except TimeoutError:
            raise AssertionError(empty) from None
        flow = (await http.get("/api/flow/now")).json()
    assert len(flow["history"]) > 1
    assert flow["workers"]
