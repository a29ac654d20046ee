"""Watches every group's committed offsets: one that goes back is a stale commit, by someone who no longer owned it."""

import asyncio
import time
from typing import NamedTuple

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from contracts.errors import StackError
from contracts.settings import Settings
from millrace.topic_admin import kafka_admin

_LOOK_SECONDS = 0.5


class StaleCommit(NamedTuple):
    at: float  # monotonic, seconds
    group: str
    partition: TopicPartition
    before: int
    after: int


class CommitWatch:
    """`stale` grows while it runs."""

    def __init__(self, settings: Settings) -> None:
        self.stale: list[StaleCommit] = []
        self._settings = settings
        self._highest: dict[tuple[str, TopicPartition], int] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                async with kafka_admin(self._settings) as admin, asyncio.timeout(30):
                    groups = [group for group, *_ in await admin.list_consumer_groups()]
                    while True:
                        for group in groups:
                            await self._look(admin, group)
                        await asyncio.sleep(_LOOK_SECONDS)
            except (KafkaError, StackError, TimeoutError, OSError):
                await asyncio.sleep(_LOOK_SECONDS)  # Kafka is away, or moved: begin anew

    async def _look(self, admin: object, group: str) -> None:
        offsets = await admin.list_consumer_group_offsets(group)  # type: ignore[attr-defined]
        for partition, meta in offsets.items():
            before = self._highest.get((group, partition), -1)
            if 0 <= meta.offset < before:
                self.stale.append(StaleCommit(time.monotonic(), group, partition, before, meta.offset))
            if meta.offset >= 0:
                self._highest[group, partition] = meta.offset
