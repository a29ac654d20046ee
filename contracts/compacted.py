"""A compacted topic of one partition, as a process follows it: read to its end first, then each change as it comes."""

import asyncio
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from contracts.kafka import client_options
from contracts.settings import Settings

_RETRY_SECONDS = 1.0
_POLL_MS = 60_000
_log = structlog.get_logger()

Records = Iterable[tuple[bytes | None, bytes | None]]  # keys and values; None: what the key had is gone


class Follower:
    """An async context manager: inside it, everything that the topic holds has been told to `apply`.

    Entering raises KafkaError; afterwards the client reconnects by itself, and what was known holds meanwhile.
    """

    def __init__(self, settings: Settings, topic: str, apply: Callable[[Records], None]) -> None:
        self._apply = apply
        self._at = TopicPartition(topic, 0)
        self._consumer = AIOKafkaConsumer(
            **client_options(settings), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._following: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            self._consumer.assign([self._at])
            await self._catch_up()
        except BaseException:
            await self._consumer.stop()
            raise
        self._following = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._following:
            self._following.cancel()
            await asyncio.wait({self._following})
        await self._consumer.stop()

    async def _catch_up(self) -> None:
        await self._consumer.seek_to_beginning(self._at)
        end = (await self._consumer.end_offsets([self._at]))[self._at]
        while await self._consumer.position(self._at) < end:
            await self._poll()

    async def _follow(self) -> None:
        while True:
            try:
                await self._poll()
            except KafkaError as error:
                _log.warning("a topic can't be read", topic=self._at.topic, reason=repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def _poll(self) -> None:
        batches: dict[TopicPartition, list[Any]] = await self._consumer.getmany(timeout_ms=_POLL_MS)
        for records in batches.values():
            self._apply([(record.key, record.value) for record in records])
