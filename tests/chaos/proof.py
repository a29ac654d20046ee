"""What reached a topic since a moment: read from outside, to see whether a fault happened."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.catalogue import load_catalogue
from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import all_topics

_AGAIN_SECONDS = 0.5
_READ_SECONDS = 10.0


class Window:
    """Opens at a topic's ends. Kafka may be away: then it waits."""

    def __init__(self, settings: Settings, partitions: list[TopicPartition]) -> None:
        self._settings = settings
        self._partitions = partitions
        self._starts: dict[TopicPartition, int] = {}

    @classmethod
    async def open(cls, settings: Settings, topic: str) -> "Window":
        [spec] = [spec for spec in all_topics(settings, load_catalogue()) if spec.name == topic]
        window = cls(settings, [TopicPartition(topic, number) for number in range(spec.partitions)])
        while not window._starts:
            try:
                async with asyncio.timeout(_READ_SECONDS), window._consumer() as consumer:
                    window._starts = await consumer.end_offsets(window._partitions)
            except (KafkaError, OSError, TimeoutError):
                await asyncio.sleep(_AGAIN_SECONDS)
        return window

    async def records(self) -> list[ConsumerRecord]:
        """Up to now; none while Kafka is away."""
        try:
            async with asyncio.timeout(_READ_SECONDS), self._consumer() as consumer:
                return await self._read(consumer)
        except (KafkaError, OSError, TimeoutError):
            return []

    @asynccontextmanager
    async def _consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(**client_options(self._settings), enable_auto_commit=False)
        try:
            await consumer.start()
            yield consumer
        finally:
            await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer) -> list[ConsumerRecord]:
        consumer.assign(self._partitions)
        for partition, start in self._starts.items():
            consumer.seek(partition, start)
        ends = await consumer.end_offsets(self._partitions)
        found: list[ConsumerRecord] = []
        while any([await consumer.position(partition) < end for partition, end in ends.items()]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                found += batch
        return found
