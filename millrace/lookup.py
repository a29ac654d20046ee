"""How an unfinished request stands: asked of the streams, as ingress asks it, by a record on `requests`."""

import asyncio
import random

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from ulid import ULID

from contracts.envelope import Envelope, ReplyTo, RequestType
from contracts.errors import StackError
from contracts.frames import FrameKind, RequestState
from contracts.kafka import client_options, header, producer_options
from contracts.keys import RequestKey
from contracts.settings import Settings
from contracts.topics import Topics

_PATIENCE_SECONDS = 5.0


async def look_up(settings: Settings, key: RequestKey) -> RequestState | None:
    """None when the streams know no such request. Raises StackError when they, or Kafka, don't answer."""
    topics = Topics.of(settings)
    replies = TopicPartition(topics.responses, random.randrange(settings.response_partitions))  # noqa: S311 - spreads load
    question = Envelope(
        ce_id=str(ULID()),
        ce_source="/cli",
        ce_type=RequestType.LOOKUP,
        tenant=key.tenant,
        reply_to=str(ReplyTo(replies.topic, replies.partition)),
    )
    try:
        async with (
            asyncio.timeout(_PATIENCE_SECONDS),
            AIOKafkaConsumer(**client_options(settings)) as consumer,
            AIOKafkaProducer(**producer_options(settings)) as producer,
        ):
            consumer.assign([replies])
            await consumer.seek_to_end()
            await consumer.position(replies)  # the end is known: no answer can be missed
            await producer.send_and_wait(topics.requests, b"", key=key.encode(), headers=question.to_headers())
            return _state(await _answer(consumer, question.ce_id))
    except (TimeoutError, KafkaError) as error:
        raise StackError("The streams didn't say how it stands: is the stack running?") from error


async def _answer(consumer: AIOKafkaConsumer, ce_id: str) -> ConsumerRecord:
    while True:
        record = await consumer.getone()
        if header(record.headers, "in-reply-to") == ce_id.encode():
            return record


def _state(record: ConsumerRecord) -> RequestState | None:
    """An error frame means that there is no such request."""
    known = header(record.headers, "kind") == FrameKind.STATE.encode()
    return RequestState.model_validate_json(record.value) if known else None
