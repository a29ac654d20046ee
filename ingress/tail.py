"""One partition followed by one reader: no group, no commits, no coordination."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from contracts.kafka import ANSWER_MS, client_options
from contracts.settings import Settings

log = structlog.get_logger()

REQUEST_TIMEOUT_MS = ANSWER_MS
POLL_MS = 60_000
FETCH_BYTES = 2_097_152  # the more frames come together, the fewer writes they take
RETRY_SECONDS = 1.0


class Tail:
    """The client reconnects by itself and goes on at its offset; only an offset that is gone has to be made good."""

    def __init__(
        self,
        settings: Settings,
        at: TopicPartition,
        start_at: Literal["beginning", "end"],
        deliver: Callable[[list[Any]], None],
    ) -> None:
        self._at = at
        self._start_at = start_at
        self._deliver = deliver
        self._consumer = AIOKafkaConsumer(
            **client_options(settings),
            enable_auto_commit=False,
            auto_offset_reset="none",
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )

    async def start(self) -> None:
        """Whatever is written after this returns will be delivered by `follow`. Raises KafkaError."""
        await self._consumer.start()
        self._consumer.assign([self._at])
        await self._seek()

    async def catch_up(self) -> None:
        """Deliver everything up to the partition's present end. Raises KafkaError."""
        end = (await self._consumer.end_offsets([self._at]))[self._at]
        while await self._consumer.position(self._at) < end:
            await self._poll()

    async def follow(self, on_loss: Callable[[], Awaitable[None]] | None = None) -> None:
        """Deliver what comes, until cancelled. `on_loss` is awaited when records may have been missed."""
        while True:
            try:
                await self._poll()
            except OffsetOutOfRangeError:
                log.warning("records are gone from Kafka", topic=self._at.topic, reading_on_at=self._start_at)
                await self._seek()
                if on_loss is not None:
                    await on_loss()
            except KafkaError as error:
                log.warning("a partition can't be read", topic=self._at.topic, reason=repr(error))
                await asyncio.sleep(RETRY_SECONDS)

    async def stop(self) -> None:
        await self._consumer.stop()

    async def _seek(self) -> None:
        seek = self._consumer.seek_to_end if self._start_at == "end" else self._consumer.seek_to_beginning
        while not await seek(self._at):
            log.warning("an offset can't be found yet", topic=self._at.topic)

    async def _poll(self) -> None:
        for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
            self._deliver(records)
