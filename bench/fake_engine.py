"""Plays everything behind ingress: reads what it asks, and writes frames straight to its reply address."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts.envelope import Envelope, ReplyTo
from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import Topics

_HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "small"}
_BATCH_BYTES = 1_000_000


@dataclass(slots=True)
class Asked:
    """A streamed request; `sent` is how many frames of it there are."""

    key: bytes
    address: ReplyTo
    sent: int = 0
    position: int = 0


class FakeEngine:
    def __init__(self, producer: AIOKafkaProducer, consumer: AIOKafkaConsumer) -> None:
        self._producer = producer
        self._consumer = consumer

    async def asked(self, count: int) -> list[Asked]:
        """The next so many requests."""
        found: list[Asked] = []
        async with asyncio.timeout(120):
            while len(found) < count:
                for records in (await self._consumer.getmany(timeout_ms=1000)).values():
                    for record in records:
                        envelope = Envelope.from_headers(record.headers)
                        found.append(Asked(record.key, ReplyTo.parse(envelope.reply_to or "")))
        return found

    async def tokens(self, asked: list[Asked], frames: int, tokens_per_frame: int = 1) -> None:
        """Frames for each in turn, as a batching engine gives them; returns when Kafka has them."""
        chunk = _render(" token " * tokens_per_frame)
        characters = 7 * tokens_per_frame
        for _ in range(frames):
            for one in asked:
                one.sent += 1
                one.position += characters
                await self._send(one, b"delta", chunk, [])
        await self._producer.flush()

    async def end(self, asked: list[Asked]) -> None:
        for one in asked:
            one.sent += 1
            await self._send(one, b"delta", _render("", "stop"), [])
            await self._send(one, b"final", b'{"choices":[]}', [("outcome", b"succeeded")])
        await self._producer.flush()

    async def _send(self, one: Asked, kind: bytes, value: bytes, more: list[tuple[str, bytes]]) -> None:
        """The headers that a worker writes."""
        headers = [
            ("kind", kind),
            ("run", b"host-12345-abcd.17"),
            ("model", b"small"),
            ("claim", b"3.123456"),
            ("sequence", b"%d" % one.sent),
            ("position", b"%d" % one.position),
            ("completion-tokens", b"%d" % one.sent),
            *more,
        ]
        await self._producer.send(one.address.topic, value, one.key, one.address.partition, headers=headers)


def _render(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": finish}
    return orjson.dumps({**_HEAD, "system_fingerprint": "synthetic", "choices": [choice]})


@asynccontextmanager
async def fake_engine(settings: Settings) -> AsyncIterator[FakeEngine]:
    """Hears what is asked from now on."""
    options = client_options(settings)
    producer = AIOKafkaProducer(**options, acks=1, linger_ms=5, max_batch_size=_BATCH_BYTES)
    consumer = AIOKafkaConsumer(**options, enable_auto_commit=False)
    async with producer, consumer:
        partitions = range(settings.request_partitions)
        consumer.assign([TopicPartition(Topics.of(settings).requests, number) for number in partitions])
        await consumer.seek_to_end()
        yield FakeEngine(producer, consumer)
