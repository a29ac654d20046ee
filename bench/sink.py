"""The sink: CPU time from Kafka record to queryable row, and how soon a row is there when little comes.

A broker of its own; the sink runs in this process, so that its CPU time (aiokafka, Python and ClickHouse's threads, the
merges waited for) is this process's. `EVENTS=1000000 make bench-sink`.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaProducer

from analytics.clickhouse import Client, connect
from analytics.health import Health
from analytics.ledger import Ledger
from analytics.sink import Sink, consumer_of
from bench.results import publish
from contracts.catalogue import load_catalogue
from contracts.kafka import producer_options
from contracts.outcomes import Outcome
from contracts.runtime import collect_rarely
from contracts.settings import Settings
from contracts.topics import Topics, all_topics
from contracts.usage import UsageEvent, event_id
from millrace.kafka_broker import KafkaBroker
from millrace.kafka_setup import prepare_kafka
from millrace.replay.report import percentile
from millrace.stack_settings import StackSettings
from millrace.topic_admin import ensure_topics

EVENTS = int(os.environ.get("EVENTS", "1_000_000"))
SINGLE = 40  # events that come alone, one after the other
_START_MS = 1_790_000_000_000


async def main() -> None:
    """Publishes a row for the load and one for the single events."""
    collect_rarely()  # as the service does
    with tempfile.TemporaryDirectory(prefix="millrace-bench-") as folder:
        broker = KafkaBroker(await prepare_kafka(StackSettings()), Path(folder) / "kafka")
        await broker.start()
        try:
            settings = Settings(kafka_bootstrap_servers=broker.bootstrap, clickhouse_path=Path(folder) / "clickhouse")
            await ensure_topics(settings, all_topics(settings, load_catalogue()))
            await _fill_in_another_process(settings)
            rows = await _measure(settings)
        finally:
            await broker.stop()
    await asyncio.to_thread(publish, "sink", f"The sink, {EVENTS:,} events in Kafka, then {SINGLE} alone", rows)


async def _measure(settings: Settings) -> list[dict[str, Any]]:
    with ThreadPoolExecutor(1, "ledger") as executor:
        loop = asyncio.get_running_loop()
        ledger = await loop.run_in_executor(executor, Ledger.open, settings)
        with connect(settings) as client:
            client.database = settings.clickhouse_database
            cpu, wall = time.process_time(), time.perf_counter()
            async with _sinking(settings, ledger, executor):
                await _until_rows(client, EVENTS, 0.2)
                inserted, elapsed = time.process_time() - cpu, time.perf_counter() - wall
                await _until_merged(client)
                merged = time.process_time() - cpu
                waits = [await _alone(settings, client, number) for number in range(SINGLE)]
            blocks = client.query(_BLOCKS).result_rows[0][0]
        await loop.run_in_executor(executor, ledger.close)
    return [
        {"what": "rows per CPU second, merges counted", "figure": EVENTS / merged},
        {"what": "rows per CPU second, without merges", "figure": EVENTS / inserted},
        {"what": "rows per second by the clock", "figure": EVENTS / elapsed},
        {"what": "rows in a block, at most", "figure": float(blocks)},
        {"what": "one event alone, queryable after ms, p50", "figure": percentile(waits, 0.5)},
        {"what": "one event alone, queryable after ms, p99", "figure": percentile(waits, 0.99)},
    ]


_BLOCKS = "SELECT max(n) FROM (SELECT count() AS n FROM usage GROUP BY inserted_at)"


@asynccontextmanager
async def _sinking(settings: Settings, ledger: Ledger, executor: ThreadPoolExecutor) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with consumer_of(settings) as consumer, AIOKafkaProducer(**producer_options(settings)) as producer:
        task = asyncio.create_task(Sink(settings, ledger, executor, Health()).run(consumer, producer, stop))
        try:
            yield
        finally:
            stop.set()
            await task


async def _alone(settings: Settings, client: Client, number: int) -> float:
    """Milliseconds from the producer's receipt to the row."""
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        event = next(_events(EVENTS + number, 1))
        await producer.send_and_wait(
            Topics.of(settings).usage, event.model_dump_json().encode(), key=event.tenant.encode()
        )
        sent = time.perf_counter()
        await _until_rows(client, EVENTS + number + 1, 0.005)
        return 1000 * (time.perf_counter() - sent)


async def _until_rows(client: Client, count: int, pause: float) -> None:
    while (await asyncio.to_thread(client.query, "SELECT count() FROM usage")).result_rows[0][0] < count:  # noqa: ASYNC110
        await asyncio.sleep(pause)


async def _until_merged(client: Client) -> None:
    while (await asyncio.to_thread(client.query, "SELECT count() FROM system.merges")).result_rows[0][0]:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


async def _fill_in_another_process(settings: Settings) -> None:
    environment = os.environ | {"MILLRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers}
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.sink", "fill", env=environment)
    if await process.wait():
        sys.exit("The topic could not be filled.")


async def _fill() -> None:
    settings = Settings()
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        batch = []
        for event in _events(0, EVENTS):
            batch.append(
                await producer.send(
                    Topics.of(settings).usage, event.model_dump_json().encode(), key=event.tenant.encode()
                )
            )
            if len(batch) == 5000:
                await asyncio.gather(*batch)
                batch.clear()
        await asyncio.gather(*batch)


def _events(first: int, count: int) -> Iterator[UsageEvent]:
    """As settle writes them, a thousand a second of the ledger's time, from 200 tenants with 100 users each."""
    rng = random.Random(first)
    for number in range(first, first + count):
        accepted = _START_MS + number
        tenant, model = f"tenant-{int(rng.random() ** 2 * 200)}", rng.choice(["small", "large"])
        key = f"01K{number:023d}"
        yield UsageEvent(
            event_id=event_id(f"{tenant}:{key}", f"{number % 8}.{number // 8}"),
            event_time=accepted + 900,
            tenant=tenant,
            idempotency_key=key,
            claim=f"{number % 8}.{number // 8}",
            user=f"user-{rng.randrange(100)}",
            feature=f"feature-{rng.randrange(12)}",
            tags={"team": "search", "env": "prod"} if number % 4 == 0 else {},
            api_key_id="key_01K0000000000000",
            operation="chat",
            requested_model="auto",
            model=model,
            model_version="2.5",
            engine="vllm",
            worker=f"worker-{number % 8}",
            run=f"01K{number:023d}",
            route="simple",
            router_version="2026-11-22.2",
            complexity=round(rng.random(), 3),
            outcome=Outcome.SUCCEEDED,
            status=200,
            finish_reason="stop",
            streamed=bool(number % 3),
            prompt_tokens=rng.randrange(4000),
            cached_tokens=0,
            completion_tokens=rng.randrange(800),
            reserved_tokens=5000,
            accepted_at=accepted,
            deduped_at=accepted + 4,
            admitted_at=accepted + 8,
            started_at=accepted + 11,
            first_token_at=accepted + 53 + rng.randrange(500),
            finished_at=accepted + 880,
            engine_us=rng.randrange(10**6),
            price_version="2026-11-22",
            cost_nano=rng.randrange(10**7),
            gpu_nano=rng.randrange(10**6),
            trace_id="0af7651916cd43dd8448eb211c80319c",
        )


if __name__ == "__main__":
    uvloop.run(_fill() if sys.argv[1:] == ["fill"] else main())
