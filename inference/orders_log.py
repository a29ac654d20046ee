"""The topic `control`, read by every worker: all partitions, no group, from before the oldest work that still waits."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts.clock import now_ms
from contracts.kafka import client_options, header
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from inference.orders import Orders

log = structlog.get_logger()
_MARGIN_MS = 3_600_000  # what streams may be behind with when a worker starts: no work is seen of it yet
_POLL_MS = 60_000
_RETRY_SECONDS = 1.0
_OLDEST_SECONDS = 10.0


@asynccontextmanager
async def followed(settings: Settings, models: Iterable[str], orders: Orders) -> AsyncIterator["asyncio.Task[None]"]:
    """Everything that was ordered so far is known on entering; what comes is, as soon as it is written, while the task
    runs. Raises KafkaError."""
    since_ms = min([now_ms() - _MARGIN_MS, *[await oldest(settings, model) for model in models]])
    consumer = AIOKafkaConsumer(
        **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest", metadata_max_age_ms=5000
    )
    try:
        await consumer.start()
        await _catch_up(consumer, Topics.of(settings).control, settings.request_partitions, since_ms, orders)
        task = asyncio.create_task(_follow(consumer, orders), name="control")
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait({task})
    finally:
        await consumer.stop()


async def oldest(settings: Settings, model: str) -> int:
    """When the first of the model's work that isn't done was accepted, UTC ms: now, when all is done; 0, when that
    can't be told. Raises KafkaError."""
    topics = Topics.of(settings)
    consumer = AIOKafkaConsumer(
        **client_options(settings),
        group_id=topics.worker_group(model),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )
    try:
        await consumer.start()
        at = [TopicPartition(topics.work(model, lane), n) for lane in LANES for n in range(settings.work_partitions)]
        async with asyncio.timeout(_OLDEST_SECONDS):
            return await _first(consumer, at)
    except TimeoutError:
        return 0
    finally:
        await consumer.stop()


async def _first(consumer: AIOKafkaConsumer, at: list[TopicPartition]) -> int:
    """Of the records at the group's positions."""
    consumer.assign(at)
    starts, ends = await consumer.beginning_offsets(at), await consumer.end_offsets(at)
    since_ms, open_ = now_ms(), set()
    for place in at:
        position = max(await consumer.committed(place) or 0, starts[place])
        consumer.seek(place, min(position, ends[place]))
        if position < ends[place]:
            open_.add(place)
    while open_:
        for place, records in (await consumer.getmany(*open_, timeout_ms=1000)).items():
            accepted = header(records[0].headers, "accepted-at") or b""
            since_ms = min(since_ms, int(accepted) if accepted.isdigit() else records[0].timestamp)
            open_.discard(place)
    return since_ms


async def _catch_up(consumer: AIOKafkaConsumer, topic: str, partitions: int, since_ms: int, orders: Orders) -> None:
    at = [TopicPartition(topic, number) for number in range(partitions)]
    consumer.assign(at)
    ends = await consumer.end_offsets(at)
    firsts = await consumer.offsets_for_times(dict.fromkeys(at, since_ms))
    for place in at:
        first = firsts.get(place)
        consumer.seek(place, first.offset if first else ends[place])
    behind = set(at)
    while behind := {place for place in behind if await consumer.position(place) < ends[place]}:
        await _take(consumer, orders, timeout_ms=1000)


async def _follow(consumer: AIOKafkaConsumer, orders: Orders) -> None:
    while True:
        try:
            await _take(consumer, orders, timeout_ms=_POLL_MS)
        except KafkaError as error:
            log.warning("orders can't be read", reason=repr(error))
            await asyncio.sleep(_RETRY_SECONDS)


async def _take(consumer: AIOKafkaConsumer, orders: Orders, *, timeout_ms: int) -> None:
    for records in (await consumer.getmany(timeout_ms=timeout_ms)).values():
        orders.apply(records)
