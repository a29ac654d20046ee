"""One lane's records that were fetched and wait for room in the engine."""

import asyncio
from collections import deque
from collections.abc import Iterable

from aiokafka import ConsumerRecord


class Lane:
    """`ahead` is how many records may wait before no more are fetched."""

    def __init__(self, topic: str, ahead: int) -> None:
        self.topic = topic
        self._ahead = ahead
        self._waiting: deque[ConsumerRecord] = deque()
        self._short = asyncio.Event()
        self._short.set()

    async def until_short(self) -> None:
        """Returns when more should be fetched."""
        await self._short.wait()

    def put(self, records: Iterable[ConsumerRecord]) -> None:
        self._waiting.extend(records)
        if len(self._waiting) >= self._ahead:
            self._short.clear()

    def pop(self) -> ConsumerRecord | None:
        if not self._waiting:
            return None
        record = self._waiting.popleft()
        if len(self._waiting) < self._ahead:
            self._short.set()
        return record

    def clear(self) -> None:
        """The partitions are dealt anew: what is ours then will be delivered again."""
        self._waiting.clear()
        self._short.set()
