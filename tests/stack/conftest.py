"""One running stack for the tests of the whole: real Kafka, real services, two workers, the synthetic engine."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import clickhouse_connect
import httpx
import openai
import pytest
from clickhouse_connect.driver.client import Client as ClickHouse

from contracts.settings import Settings
from millrace.kafka_runtime import KafkaRuntime
from millrace.keys import create_key
from millrace.stack_file import StackFile, running_stack
from tests.support.commands import Command
from tests.support.until import until

Rows = list[tuple[object, ...]]


@pytest.fixture(scope="session")
async def data_dir(tmp_path_factory: pytest.TempPathFactory, kafka_runtime: KafkaRuntime) -> AsyncIterator[Path]:
    folder = tmp_path_factory.mktemp("stack")
    environment = {"MILLRACE_KAFKA_PORT": 0, "MILLRACE_ANALYTICS_PORT": 0, "MILLRACE_DASHBOARD_PORT": 0}
    environment |= {"MILLRACE_SYNTHETIC_FAULTS": True}
    environment |= {"MILLRACE_METRICS_PORT": 20_000 + os.getpid() % 1500 * 8}  # no other stack of a test begins there
    environment |= {"MILLRACE_INGRESS_RETURN_SECONDS": 60}  # whose connection was cut finds its request, on any machine
    environment |= {"MILLRACE_GPU_HOUR_DOLLARS": "3.60", "MILLRACE_ENGINE_TIME_SECONDS": 1}
    command = await Command.start(
        "millrace", "up", "--port", 0, "--data-dir", folder, "--workers", 2, environment=environment
    )
    try:
        await command.until("ready ")
        yield folder
        command.signal(signal.SIGTERM)
        ended = await command.ended()
        assert ended.status == 0, ended
    finally:
        await command.discard()


@pytest.fixture
def stack(data_dir: Path) -> StackFile:
    """As it is now: a child that was started again has another process id."""
    return running_stack(data_dir)


@pytest.fixture
def stack_settings(stack: StackFile) -> Settings:
    return Settings(kafka_bootstrap_servers=stack.kafka)


@pytest.fixture
def new_key(stack_settings: Settings, stack: StackFile) -> Callable[..., Awaitable[str]]:
    """Makes an API key and returns once the ingress knows it."""

    async def make(tenant: str, user: str = "") -> str:
        secret = (await create_key(stack_settings, tenant, user)).secret
        headers = {"Authorization": f"Bearer {secret}"}
        async with httpx.AsyncClient(base_url=stack.url, headers=headers) as http:

            async def known() -> bool:
                return (await http.get("/v1/models")).status_code == httpx.codes.OK

            await until(known)
        return secret

    return make


@pytest.fixture
async def sdk(stack: StackFile, new_key: Callable[..., Awaitable[str]]) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own SDK, unchanged, as tenant `acme`."""
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=await new_key("acme"), max_retries=0) as client:
        yield client


@pytest.fixture
def clickhouse(stack: StackFile) -> ClickHouse:
    assert stack.query_url is not None
    return clickhouse_connect.get_client(dsn=stack.query_url, database="millrace")


@pytest.fixture
def ledger(clickhouse: ClickHouse) -> Callable[..., Awaitable[Rows]]:
    """Rows of a query, as soon as there are so many."""

    async def rows(sql: str, count: int, **parameters: object) -> Rows:
        found: Rows = []

        async def enough() -> bool:
            found[:] = (await asyncio.to_thread(clickhouse.query, sql, parameters=parameters)).result_rows
            return len(found) >= count

        await until(enough)
        return found

    return rows
