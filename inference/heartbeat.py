"""A worker's beat on `workers`: what it serves, does and has waiting, each second and when much has changed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import version

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.clock import now_ms
from contracts.topics import Topics
from contracts.workers import BEAT_MS, Beat
from inference.consumer import ModelConsumer

log = structlog.get_logger()
_SOONEST_SECONDS = 0.2  # from one beat to the next, however much changes
_LAST_SECONDS = 2.0  # for the tombstone


class Heartbeat:
    """Of one worker process."""

    def __init__(
        self, producer: AIOKafkaProducer, topics: Topics, worker: str, consumers: Sequence[ModelConsumer]
    ) -> None:
        self._producer = producer
        self._topic = topics.workers
        self._worker = worker
        self._consumers = consumers
        self._started_at = now_ms()
        self._changed = asyncio.Event()
        for consumer in consumers:
            consumer.telling.on_change = self._changed.set

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beats inside; who leaves in order takes its last beat back."""
        task = asyncio.create_task(self._run(), name="heartbeat")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})
            with suppress(KafkaError, TimeoutError):
                async with asyncio.timeout(_LAST_SECONDS):
                    await self._producer.send_and_wait(self._topic, None, key=self._worker.encode())

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            try:
                await self._beat()
            except KafkaError as error:
                log.warning("A beat was lost.", error=repr(error))
            await asyncio.sleep(_SOONEST_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT_MS / 1000 - _SOONEST_SECONDS):
                    await self._changed.wait()

    async def _beat(self) -> None:
        """Returns when Kafka has it: while Kafka is away, beats don't pile up that would be stale when they come."""
        models = tuple([await consumer.telling.load() for consumer in self._consumers])
        beat = Beat(
            worker=self._worker, at=now_ms(), started_at=self._started_at, version=version("millrace"), models=models
        )
        value = beat.model_dump_json().encode()
        await self._producer.send_and_wait(self._topic, value, key=self._worker.encode())
