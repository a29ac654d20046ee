"""The analytics service: the sink, and beside it the query port."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from analytics.clickhouse import ClickHouseError
from analytics.dashboard.desk import Desk
from analytics.dashboard.service import beside
from analytics.duplicates import DUPLICATES
from analytics.engine_time import ENGINE_TIME
from analytics.feedback import FEEDBACK
from analytics.health import Health
from analytics.ledger import Ledger
from analytics.maintenance import Maintenance
from analytics.query_engine import QueryEngine
from analytics.query_port import application
from analytics.side_sink import Side, SideSink
from analytics.sink import Sink, consumer_of
from contracts.http_server import bind, serving
from contracts.kafka import producer_options
from contracts.pause import pause
from contracts.runtime import notify_ready
from contracts.settings import Settings
from contracts.topics import Topics

_log = structlog.get_logger()
_RETRY_SECONDS = 2.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
T = TypeVar("T")


async def run(settings: Settings, *, stop: asyncio.Event, desk: Desk | None = None) -> None:
    """Until told to stop; waits for a Kafka or ClickHouse that isn't there yet. `desk` is the dashboard's way to the
    stages. Raises StackError, ConfigError."""
    health = Health()
    with ThreadPoolExecutor(1, "ledger") as executor:
        ledger = await _patiently(lambda: _in(executor, Ledger.open, settings), "ClickHouse", stop)
        if ledger is None:
            return
        if not settings.clickhouse_url:
            _keep_blocks_in(settings.clickhouse_path.with_name(f"{settings.clickhouse_path.name}-incoming"))
        try:
            async with beside(settings, desk):
                await _serve(settings, ledger, executor, health, stop)
        finally:
            await _in(executor, ledger.close)


async def _serve(
    settings: Settings, ledger: Ledger, executor: ThreadPoolExecutor, health: Health, stop: asyncio.Event
) -> None:
    engine = None if settings.clickhouse_url else await _in(executor, QueryEngine, settings)
    maintenance = Maintenance(settings, ledger, executor).routes() if engine else []
    app = application(settings, health, engine, maintenance)
    if engine and settings.clickhouse_password is None and settings.analytics_host not in _LOOPBACK:
        _log.warning("the query port is open to other machines without a password: set MILLRACE_CLICKHOUSE_PASSWORD")
    async with serving(app, bind(settings.analytics_host, settings.analytics_port, "ANALYTICS")) as server:
        _log.info("query port open", host=settings.analytics_host, port=server.port, queries=engine is not None)
        async with _kafka(settings, stop) as clients:
            if clients:
                health.is_well()
                notify_ready()
                sides = SideSink(settings, sides_of(settings), ledger.client, executor)
                sink = Sink(settings, ledger, executor, health)
                await _together(stop, sink.run(*clients, stop), sides.run(clients[1], stop))
                health.ails("stopping")
    if engine:
        await _in(executor, engine.close)


def sides_of(settings: Settings) -> dict[str, Side]:
    """What is stored beside the bills, by topic."""
    topics = Topics.of(settings)
    return {topics.feedback: FEEDBACK, topics.engine_time: ENGINE_TIME, topics.duplicates: DUPLICATES}


async def _together(stop: asyncio.Event, *runs: Coroutine[Any, Any, None]) -> None:
    """Until all have ended; when one fails the others are told to stop."""
    tasks = [asyncio.create_task(run) for run in runs]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    stop.set()
    await asyncio.gather(*tasks)


def _keep_blocks_in(folder: Path) -> None:
    """clickhouse-connect hands a block to the embedded engine as a temporary file, and a crash leaves it behind: here
    the next start finds and removes it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    tempfile.tempdir = str(folder)


@asynccontextmanager
async def _kafka(
    settings: Settings, stop: asyncio.Event
) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaProducer] | None]:
    """Both clients, started; None when told to stop before that."""
    consumer = await _patiently(lambda: _started(consumer_of(settings)), "Kafka", stop)
    producer = await _patiently(lambda: _started(AIOKafkaProducer(**producer_options(settings))), "Kafka", stop)
    try:
        yield (consumer, producer) if consumer and producer else None
    finally:
        for client in (consumer, producer):
            if client:
                await client.stop()


async def _started(client: Any) -> Any:
    try:
        await client.start()
    except BaseException:
        await client.stop()
        raise
    return client


async def _patiently(attempt: Callable[[], Awaitable[T]], what: str, stop: asyncio.Event) -> T | None:
    """Until it succeeds, or told to stop."""
    while not stop.is_set():
        try:
            return await attempt()
        except (ClickHouseError, KafkaError, OSError) as error:
            _log.warning("not there yet, trying again", what=what, retry_s=_RETRY_SECONDS, error=str(error))
            await pause(_RETRY_SECONDS, stop)
    return None


async def _in(executor: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(executor, function, *args)
