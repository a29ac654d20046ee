"""A client without HTTP: records on `requests`, frames from `responses`, and the same record again when none come."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.frames import Frame, FrameKind
from contracts.kafka import client_options, producer_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics
from tests.chaos.answers import Ask, Said, Told

_TRY_SECONDS = 8.0
_PAUSE_SECONDS = 0.5


class KafkaClient:
    def __init__(self, settings: Settings) -> None:
        self._topics = Topics.of(settings)
        # Not idempotent: such a producer is of no use once a batch has expired. What comes twice, Millrace must notice.
        options = producer_options(settings) | {"enable_idempotence": False, "request_timeout_ms": 10_000}
        self._producer = AIOKafkaProducer(**options)
        self._consumer = AIOKafkaConsumer(**client_options(settings), metadata_max_age_ms=5000)
        partitions = range(settings.response_partitions)
        self._partitions = [TopicPartition(self._topics.responses, number) for number in partitions]
        self._waiting: dict[bytes, asyncio.Future[ConsumerRecord]] = {}
        self._reading: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._producer.start()
        await self._consumer.start()
        self._consumer.assign(self._partitions)
        await self._consumer.seek_to_end(*self._partitions)
        for partition in self._partitions:
            await self._consumer.position(partition)
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        if self._reading:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        await self._consumer.stop()
        await self._producer.stop()

    async def ask(self, ask: Ask, told: Told) -> Said | None:
        """Until it is answered, or has failed for good (None)."""
        while True:
            try:
                record = await asyncio.wait_for(self._try(ask), _TRY_SECONDS)
            except (KafkaError, TimeoutError) as error:
                told.trouble(repr(error), failed=not isinstance(error, TimeoutError))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            frame = Frame.from_headers(record.headers)
            if frame.kind is FrameKind.FINAL:
                return Said.of(orjson.loads(record.value))
            limited = frame.outcome is Outcome.REJECTED
            told.trouble(f"{frame.status} {record.value[:150]!r}", failed=not limited)
            if limited and ask.limited:
                told.refused = frame.status
                return None
            if frame.outcome is None or frame.outcome.stored:
                return None
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _try(self, ask: Ask) -> ConsumerRecord:
        key = ask.key.encode()
        answer = self._waiting.setdefault(key, asyncio.get_running_loop().create_future())
        try:
            await self._producer.send_and_wait(self._topics.requests, ask.content, key=key)
            return await asyncio.shield(answer)
        finally:
            if self._waiting.get(key) is answer:
                del self._waiting[key]

    async def _read(self) -> None:
        while True:
            try:
                found = await self._consumer.getmany(timeout_ms=200)
            except KafkaError:
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            for records in found.values():
                self._hand_over(records)

    def _hand_over(self, records: Iterable[ConsumerRecord]) -> None:
        for record in records:
            waiting = self._waiting.get(record.key)
            if waiting is None or waiting.done():
                continue
            headers = dict(record.headers)
            if headers.get("kind") == b"final" or (headers.get("kind") == b"error" and "in-reply-to" not in headers):
                waiting.set_result(record)  # what answers another asker alone (one who cancels, say) is no answer
