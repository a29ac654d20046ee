"""Producers and subscribers on Kafka, without HTTP, as docs/kafka.md says."""

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from uuid import uuid4

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from contracts.frames import Frame, FrameKind
from contracts.settings import Settings
from millrace.stack_file import StackFile

pytestmark = pytest.mark.stack
BODY = orjson.dumps({"model": "small", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 7})
ROW = "SELECT tenant, user, completion_tokens FROM usage WHERE idempotency_key = {key:String}"
Ledger = Callable[..., Awaitable[list[tuple[object, ...]]]]


class Subscriber:
    """Reads `responses` from now on."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)

    async def __aenter__(self) -> "Subscriber":
        await self._consumer.start()
        partitions = [TopicPartition("responses", number) for number in range(Settings().response_partitions)]
        self._consumer.assign(partitions)
        await self._consumer.seek_to_end(*partitions)
        for partition in partitions:
            await self._consumer.position(partition)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def frames(self, key: bytes) -> list[tuple[Frame, bytes]]:
        """Up to the last one of that key."""
        found: list[tuple[Frame, bytes]] = []
        async with asyncio.timeout(30):
            async for record in self._consumer:
                if record.key == key:
                    found.append((Frame.from_headers(record.headers), record.value))
                    if found[-1][0].kind is not FrameKind.DELTA:
                        return found
        raise AssertionError("the consumer ended")


async def send(stack: StackFile, key: bytes | None, value: bytes, partition: int | None = None, **headers: str) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True) as producer:
        named = [(name.replace("_", "-"), text.encode()) for name, text in headers.items()]
        await producer.send_and_wait("requests", value, key=key, headers=named, partition=partition)


async def test_a_body_and_a_key_are_enough(stack: StackFile, ledger: Ledger) -> None:
    key = f"k-{uuid4()}"
    async with Subscriber(stack.kafka) as subscriber:
        await send(stack, f"acme:{key}".encode(), BODY, user="bob")
        [(frame, value)] = await subscriber.frames(f"acme:{key}".encode())
    assert (frame.kind, frame.status) == (FrameKind.FINAL, 200)
    assert orjson.loads(value)["usage"]["completion_tokens"] == 7
    assert await ledger(ROW, 1, key=key) == [("acme", "bob", 7)]


async def test_a_streamed_request_sends_deltas_in_order(stack: StackFile) -> None:
    key = f"acme:k-{uuid4()}".encode()
    body = orjson.dumps(orjson.loads(BODY) | {"stream": True, "max_tokens": 40})
    async with Subscriber(stack.kafka) as subscriber:
        await send(stack, key, body)
        *deltas, (final, value) = await subscriber.frames(key)
    assert [frame.sequence for frame, _ in deltas] == list(range(1, final.sequence + 1))
    text = "".join(orjson.loads(chunk)["choices"][0]["delta"].get("content", "") for _, chunk in deltas)
    assert text == orjson.loads(value)["choices"][0]["message"]["content"]
    assert deltas[-1][0].position == len(text)


async def test_http_and_kafka_share_keys(stack: StackFile, new_key: Callable[..., Awaitable[str]]) -> None:
    key = f"k-{uuid4()}"
    headers = {"Authorization": f"Bearer {await new_key('acme')}", "Idempotency-Key": key}
    async with Subscriber(stack.kafka) as subscriber:
        await send(stack, f"acme:{key}".encode(), BODY)
        [(_, value)] = await subscriber.frames(f"acme:{key}".encode())
    async with httpx.AsyncClient(base_url=stack.url, headers=headers) as http:
        posted = await http.post("/v1/chat/completions", content=BODY)
    assert posted.content == value
    assert posted.headers["idempotent-replayed"] == "true"


async def test_a_record_on_the_wrong_partition_is_one_run(stack: StackFile, ledger: Ledger) -> None:
    key = f"k-{uuid4()}"
    async with Subscriber(stack.kafka) as subscriber:
        for partition in range(Settings().request_partitions):
            await send(stack, f"acme:{key}".encode(), BODY, partition)
        [(frame, _)] = await subscriber.frames(f"acme:{key}".encode())
    assert frame.status == 200
    assert len(await ledger(ROW, 1, key=key)) == 1


@pytest.mark.parametrize(
    ("key", "value", "headers", "reason"),
    [
        (None, BODY, {}, "tenant"),
        (b"no-tenant", BODY, {}, "tenant"),
        (b"acme:malformed-body", b"{", {}, "JSON"),
        (b"acme:unknown-type", BODY, {"ce_type": "acme.order.v1"}, "ce_type"),
        (b"acme:other-tenant", BODY, {"tenant": "globex"}, "tenant"),
        (b"acme:forged-reply", BODY, {"reply_to": "usage"}, "reply topic"),
    ],
)
async def test_what_is_not_understood_goes_to_dead_letters(
    stack: StackFile, key: bytes | None, value: bytes, headers: dict[str, str], reason: str
) -> None:
    marker = str(uuid4())
    letters = AIOKafkaConsumer(bootstrap_servers=stack.kafka, auto_offset_reset="earliest")
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer, letters:
        named = [("marker", marker.encode())]
        named += [(n if n == "ce_type" else n.replace("_", "-"), text.encode()) for n, text in headers.items()]
        await producer.send_and_wait("requests", value, key=key, headers=named)
        letters.assign([TopicPartition("dead-letters", 0)])
        async with asyncio.timeout(30):
            async for letter in letters:
                found = dict(letter.headers)
                if found.get("marker") == marker.encode():
                    break
    assert (letter.key, letter.value) == (key, value)
    assert reason in found["dead-letter-reason"].decode()
    assert found["dead-letter-topic"] == b"requests"


@pytest.mark.skipif(shutil.which("kcat") is None, reason="kcat is not installed")
async def test_kcat_is_a_full_client(stack: StackFile) -> None:
    key = f"acme:k-{uuid4()}"
    produce = ["kcat", "-P", "-b", stack.kafka, "-t", "requests", "-k", key, "-H", "user=kit"]
    async with Subscriber(stack.kafka) as subscriber:
        await asyncio.to_thread(subprocess.run, produce, input=BODY, check=True, timeout=30)
        [(frame, value)] = await subscriber.frames(key.encode())
    assert frame.status == 200
    consume = ["kcat", "-C", "-b", stack.kafka, "-t", "responses", "-o", "beginning", "-e", "-q", "-f", "%k %s\n"]
    read = await asyncio.to_thread(subprocess.run, consume, capture_output=True, check=True, timeout=30)
    assert key.encode() + b" " + value in read.stdout
