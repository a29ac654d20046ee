"""kill -9 under load: every request is answered once and billed once."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from clickhouse_connect.driver.client import Client as ClickHouse

from contracts.settings import Settings
from millrace.keys import create_key
from millrace.replay.client import Client, Result, run_plan
from millrace.replay.ledger import ledger_rows
from millrace.replay.prompts import TENANTS, plan
from millrace.replay.report import client_totals, ledger_totals
from millrace.replay.trace import Arrival
from millrace.stack_file import StackFile, running_stack
from tests.support.audit import audit
from tests.support.processes import gone

pytestmark = pytest.mark.stack
REQUESTS = 240
PER_SECOND = 40
KILL_AFTER = 60  # answers


def child(stack: StackFile, name: str) -> int:
    [pid] = [child.pid for child in stack.children if child.name == name]
    assert pid is not None
    return pid


async def load_with(stack: StackFile, run: str, during: Callable[[], Awaitable[None]]) -> list[Result]:
    """A steady load of streamed and whole requests from retrying clients, while `during` happens."""
    settings = Settings(kafka_bootstrap_servers=stack.kafka)
    keys = {tenant: (await create_key(settings, tenant)).secret for tenant in TENANTS}
    requests = plan([Arrival(n / PER_SECOND, 40 + n % 60, 20 + n % 30) for n in range(REQUESTS)], run)
    enough = asyncio.Event()
    answers: list[Result] = []

    def seen(result: Result) -> None:
        answers.append(result)
        if len(answers) == KILL_AFTER:
            enough.set()

    async def fault() -> None:
        await enough.wait()
        await during()

    async with httpx.AsyncClient(base_url=stack.url, timeout=httpx.Timeout(60, read=90)) as http:
        results, _ = await asyncio.gather(run_plan(Client(http, keys), requests, 1.0, seen), fault())
    return results


@pytest.mark.parametrize("victims", [("worker-1",), ("streams",), ("worker-2", "streams", "analytics", "ingress")])
async def test_nothing_is_lost_or_doubled(data_dir: Path, clickhouse: ClickHouse, victims: tuple[str, ...]) -> None:
    run = f"kill-{'-'.join(victims)}"

    async def kill() -> None:
        stack = running_stack(data_dir)
        pids = [child(stack, victim) for victim in victims]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*(gone(pid) for pid in pids))

    stack = running_stack(data_dir)
    results = await load_with(stack, run, kill)
    unanswered = {r.request.idempotency_key: r.errors for r in results if r.outcome != "succeeded"}
    assert unanswered == {}

    rows = await ledger_rows(clickhouse, run, REQUESTS)
    assert ledger_totals(rows) == client_totals(results)

    found = await audit(stack.kafka)
    for result in results:
        key = f"{result.request.tenant}:{result.request.idempotency_key}"
        assert len(found.finals[key]) == 1, f"{key}: contradicting answers"
        assert len(found.usage[key]) == 1, f"{key}: billed {len(found.usage[key])} times"
