"""Which reply topics exist: asked of the cluster, and remembered, since sending to a missing topic would hang."""

import asyncio
import time

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

_KNOWN_SECONDS = 60.0
_UNKNOWN_SECONDS = 1.0  # between two questions to the cluster, however many topics are named


class ReplyTopics:
    def __init__(self, client: AIOKafkaClient) -> None:
        self._client = client
        self._counts: dict[str, int] = {}
        self._asked_at = -_KNOWN_SECONDS
        self._asking = asyncio.Lock()

    async def partitions(self, topic: str) -> int | None:
        """How many a topic has; None when it doesn't exist, or wasn't there a second ago."""
        async with self._asking:
            limit = _KNOWN_SECONDS if topic in self._counts else _UNKNOWN_SECONDS
            if time.monotonic() - self._asked_at > limit:
                await self._ask()
        return self._counts.get(topic)

    async def _ask(self) -> None:
        self._asked_at = time.monotonic()
        try:
            cluster = await self._client.fetch_all_metadata()
        except KafkaError:
            return
        self._counts = {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in cluster.topics()}
