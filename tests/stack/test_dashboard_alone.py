"""`millrace dashboard`: the page alone, beside a running stack, tells what the stack's own dashboard tells."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from contracts.settings import Settings
from millrace.keys import create_key
from millrace.ports import free_port
from millrace.stack_file import StackFile
from tests.support.commands import Command
from tests.support.until import until

pytestmark = pytest.mark.stack
Rows = list[tuple[object, ...]]
KEY = "dashboard-alone"


@pytest.fixture
async def alone(data_dir: Path) -> AsyncIterator[str]:
    """Its address. It stops by SIGTERM, and leaves the stack as it was."""
    port = free_port()
    environment = {"MILLRACE_DASHBOARD_PORT": port, "MILLRACE_METRICS_PORT": 0}
    command = await Command.start("millrace", "dashboard", "--data-dir", data_dir, environment=environment)
    try:
        await command.until("dashboard open", err=True)
        yield f"http://127.0.0.1:{port}"
        command.signal(signal.SIGTERM)
        ended = await command.ended()
        assert ended.status == 0, ended
    finally:
        await command.discard()


@pytest.fixture
async def asked(
    stack: StackFile, new_key: Callable[..., Awaitable[str]], ledger: Callable[..., Awaitable[Rows]]
) -> str:
    """A tenant of its own, with one request in the ledger."""
    tenant = "watched"
    headers = {"Authorization": f"Bearer {await new_key(tenant)}", "Idempotency-Key": KEY}
    body = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        assert (await http.post("/v1/chat/completions", json=body)).status_code == httpx.codes.OK
    await ledger("SELECT 1 FROM usage WHERE idempotency_key = {key:String}", 1, key=KEY)
    return tenant


async def test_it_tells_what_the_stacks_own_tells(
    alone: str, asked: str, stack: StackFile, stack_settings: Settings
) -> None:
    secret = (await create_key(stack_settings, "operator", operator=True)).secret
    told = []
    for url in (stack.dashboard_url or "", alone):
        async with httpx.AsyncClient(base_url=url, timeout=60) as http:
            await sign_in(http, secret)
            page = await http.get("/cost")
            assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
            cost = (await http.get("/api/cost/totals", params={"tenant": asked})).json()["rows"]
            life = (await http.get("/api/requests/one", params={"tenant": asked, "key": KEY})).json()["life"]
            limits = (await http.get("/api/limits/usage", params={"tenant": asked})).json()["rows"]
            flow = (await http.get("/api/flow/now")).json()
        assert flow["problem"] == ""
        used = next(row["used"] for row in limits if row["measure"] == "tokens_per_day")
        told.append((cost, life, used, [row["id"] for row in flow["rows"]], {row["model"] for row in flow["workers"]}))
    assert told[0] == told[1]
    assert (told[0][0][0]["requests"], told[0][4]) == (1, {"small", "large"})


async def sign_in(http: httpx.AsyncClient, secret: str) -> None:
    """As soon as it knows the key."""

    async def known() -> bool:
        return (await http.post("/api/session", json={"key": secret})).status_code == httpx.codes.OK

    await until(known)
