"""A History on Kafka: a reader for each partition in which somebody follows something, none when nobody does."""

import asyncio
from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition
from aiokafka.partitioner import murmur2

from contracts.envelope import ReplyTo
from contracts.errors import InvalidRequest, StackError
from contracts.settings import Settings
from contracts.topics import Topics
from ingress.history import Listener
from ingress.partition_reader import PartitionReader

_METADATA_SECONDS = 2.0


class KafkaHistory:
    """`partitions` counts a topic's partitions, and raises StackError when there is no such topic."""

    def __init__(self, settings: Settings, partitions: Callable[[str], Awaitable[int]]) -> None:
        self._settings = settings
        self._topics = Topics.of(settings)
        self._partitions = partitions
        self._readers: dict[TopicPartition, PartitionReader] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self, listener: Listener, address: str, since_ms: int) -> None:
        at = await self._place(address, listener.key)
        reader = self._readers.get(at)
        if reader is None or reader.ended:
            reader = self._readers[at] = PartitionReader(self._settings, at)
            reader.add(listener, since_ms)
            task = asyncio.create_task(reader.run(), name=f"frames of {at.topic}/{at.partition} again")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            reader.add(listener, since_ms)

    def leave(self, listener: Listener) -> None:
        for reader in self._readers.values():
            reader.remove(listener)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _place(self, address: str, key: bytes) -> TopicPartition:
        topic, partition = await self._named(address)
        if partition is None:
            partition = (murmur2(key) & 0x7FFFFFFF) % await self._partitions(topic)
        return TopicPartition(topic, partition)

    async def _named(self, address: str) -> ReplyTo:
        """Where a worker writes: to the address when that exists, else to `responses` by key."""
        by_key = ReplyTo(self._topics.responses, None)
        if not address:
            return by_key
        try:
            named = self._topics.check_reply_to(address)
            async with asyncio.timeout(_METADATA_SECONDS):
                count = await self._partitions(named.topic)
        except (InvalidRequest, StackError, TimeoutError):
            return by_key
        return named if (named.partition or 0) < count else by_key
