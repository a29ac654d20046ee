"""Everything stopped and started again on the same data folder: what was answered is still known."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from contracts.settings import Settings
from millrace.kafka_runtime import KafkaRuntime
from millrace.keys import create_key
from millrace.stack_file import StackFile, find_stack, running_stack
from tests.support.commands import Command
from tests.support.processes import gone

pytestmark = pytest.mark.stack
BODY = {"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 6}


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[StackFile]:
    """A stack from ready to nothing left running."""
    environment = {"MILLRACE_KAFKA_PORT": 0, "MILLRACE_ANALYTICS_PORT": 0}
    command = await Command.start("millrace", "up", "--port", 0, "--data-dir", folder, environment=environment)
    try:
        await command.until("ready ")
        stack = running_stack(folder)
        yield stack
        command.signal(signal.SIGTERM)
        assert (await command.ended()).status == 0
        for child in stack.children:
            assert child.pid is not None
            await gone(child.pid)
        assert find_stack(folder) is None
    finally:
        await command.discard()


async def test_answers_outlive_the_processes(tmp_path: Path, kafka_runtime: KafkaRuntime) -> None:
    folder = tmp_path / "data"
    async with running(folder) as stack:
        secret = (await create_key(Settings(kafka_bootstrap_servers=stack.kafka), "acme")).secret
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "order-42"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
            first = await http.post("/v1/chat/completions", json=BODY)
            later = await http.post(
                "/v1/chat/completions", json=BODY, headers={"Prefer": "respond-async", "Idempotency-Key": "order-43"}
            )
    assert (first.status_code, later.status_code) == (200, 202)

    async with running(folder) as stack, httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as http:
        again = await http.post("/v1/chat/completions", json=BODY)
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")
        fetched = (await http.get("/v1/requests/order-42")).json()
        assert (fetched["status"], fetched["response"]) == ("succeeded", first.json())
        finished = (await http.get("/v1/requests/order-43", params={"wait": 30})).json()
        assert finished["status"] == "succeeded"
