"""Questions to the streams, as ingress asks them: a record on a topic, and its answer on a partition of `responses`."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from contracts.envelope import ReplyTo
from contracts.errors import StackError
from contracts.headers import RawHeaders
from contracts.kafka import client_options, header, producer_options
from contracts.settings import Settings
from contracts.topics import Topics


@dataclass(frozen=True, slots=True)
class Hotline:
    """Open; what is asked from now on is answered to `reply_to`."""

    reply_to: str
    _producer: AIOKafkaProducer
    _consumer: AIOKafkaConsumer

    async def ask(
        self, topic: str, headers: RawHeaders, *, key: bytes | None = None, partition: int | None = None
    ) -> None:
        """Returns when Kafka has the question; its headers have a `ce_id`, and `reply_to`."""
        await self._producer.send_and_wait(topic, b"", key=key, headers=headers, partition=partition)

    async def answers(self, ce_ids: set[str]) -> list[ConsumerRecord]:
        """One for each question, in the order in which they come."""
        awaited = {ce_id.encode() for ce_id in ce_ids}
        found: list[ConsumerRecord] = []
        while awaited:
            record = await self._consumer.getone()
            cited = header(record.headers, "in-reply-to")
            if cited in awaited:
                awaited.remove(cited)
                found.append(record)
        return found


@asynccontextmanager
async def hotline(settings: Settings, *, patience_seconds: float, silence: str) -> AsyncIterator[Hotline]:
    """Raises StackError, in the words of `silence`, when Kafka or the answers take longer than that altogether."""
    topic = Topics.of(settings).responses
    replies = TopicPartition(topic, random.randrange(settings.response_partitions))  # noqa: S311 - spreads load
    try:
        async with (
            asyncio.timeout(patience_seconds),
            AIOKafkaConsumer(**client_options(settings)) as consumer,
            AIOKafkaProducer(**producer_options(settings)) as producer,
        ):
            consumer.assign([replies])
            await consumer.seek_to_end()
            await consumer.position(replies)  # the end is known: no answer can be missed
            yield Hotline(str(ReplyTo(replies.topic, replies.partition)), producer, consumer)
    except (TimeoutError, KafkaError) as error:
        raise StackError(silence) from error
