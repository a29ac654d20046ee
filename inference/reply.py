"""Where a request's frames go: its reply address when that exists, else `responses` by key."""

import asyncio
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.envelope import ReplyTo
from contracts.errors import InvalidRequest
from contracts.topics import Topics

_REMEMBERED_SECONDS = 30.0  # how long a topic's partitions, or its absence, are believed


class ReplyAddresses:
    """A send to a topic that doesn't exist would wait for it, so this asks first. One per process."""

    def __init__(self, producer: AIOKafkaProducer, topics: Topics) -> None:
        self._producer = producer
        self._topics = topics
        self._asking = asyncio.Lock()
        self._known: dict[str, tuple[float, int]] = {}  # topic: believed until, partitions

    async def resolve(self, reply_to: str | None) -> ReplyTo:
        """An address that can be written to; a partition of None means: by key."""
        if reply_to:
            try:
                address = self._topics.check_reply_to(reply_to)
            except InvalidRequest:
                return ReplyTo(self._topics.responses, None)
            if await self._partitions(address.topic) > (address.partition or 0):
                return address
        return ReplyTo(self._topics.responses, None)

    async def _partitions(self, topic: str) -> int:
        if known := self._fresh(topic):
            return known[1]
        async with self._asking:
            known = self._fresh(topic) or await self._ask(topic)
        return known[1]

    def _fresh(self, topic: str) -> tuple[float, int] | None:
        known = self._known.get(topic)
        return known if known and known[0] > time.monotonic() else None

    async def _ask(self, topic: str) -> tuple[float, int]:
        try:
            cluster = await self._producer.client.fetch_all_metadata()
            partitions = len(cluster.partitions_for_topic(topic) or ())
        except KafkaError:
            partitions = self._known.get(topic, (0.0, 0))[1]
        known = self._known[topic] = (time.monotonic() + _REMEMBERED_SECONDS, partitions)
        return known
