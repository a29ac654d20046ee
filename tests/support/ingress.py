"""An ingress to test against: one that lives in memory, and one on Kafka. Both speak real HTTP."""

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from openai import AsyncOpenAI

from contracts.api_keys import ApiKey, hash_api_key, new_api_key
from contracts.catalogue import load_catalogue
from contracts.envelope import ReplyTo
from contracts.errors import KafkaUnavailable
from contracts.headers import RawHeaders
from contracts.settings import Settings
from contracts.topics import Topics
from ingress.frame import DELTA, RawFrame
from ingress.gateway import Gateway
from ingress.history import Listener
from ingress.service import run, serve
from millrace.ports import free_port
from tests.support.pipeline import Pipeline, echo

CHAT = "/v1/chat/completions"
DEADLINE_SECONDS = 60.0


def chat(content: str = "hello world", **fields: Any) -> bytes:
    """The body of a request."""
    return orjson.dumps({"model": "small", "messages": [{"role": "user", "content": content}], **fields})


@dataclass
class Api:
    """A running ingress, and the pipeline behind it."""

    url: str
    secret: str
    pipeline: Pipeline

    def http(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {self.secret}", **headers}, timeout=DEADLINE_SECONDS
        )

    def openai(self, *, api_key: str | None = None, max_retries: int = 0) -> AsyncOpenAI:
        return AsyncOpenAI(
            base_url=f"{self.url}/v1",
            api_key=api_key or self.secret,
            max_retries=max_retries,
            timeout=DEADLINE_SECONDS,
        )

    def reset(self) -> None:
        self.pipeline.scenario = echo
        self.pipeline.asked.clear()
        self.pipeline.runs.clear()


@dataclass
class Record:
    """As aiokafka gives it, as far as ingress looks."""

    key: bytes
    value: bytes | None
    headers: RawHeaders


class MemoryLog:
    """A RequestLog that hands each record to a pipeline."""

    def __init__(self) -> None:
        self.reachable = True
        self.pipeline: Pipeline | None = None
        self.elsewhere: list[tuple[str, bytes, bytes]] = []  # topic, key, value
        self._handling: set[asyncio.Task[None]] = set()

    async def append(self, key: bytes, value: bytes, headers: RawHeaders, topic: str | None = None) -> None:
        if not self.reachable:
            raise KafkaUnavailable("Kafka can't be reached.", retry_after=1)
        if topic is not None:
            self.elsewhere.append((topic, key, value))
            return
        assert self.pipeline is not None
        task = asyncio.create_task(self.pipeline.handle(key, value, headers))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)


class MemoryHistory:
    """A History of what was emitted here."""

    def __init__(self) -> None:
        self._written: list[tuple[bytes, RawFrame]] = []
        self._listeners: list[Listener] = []

    def write(self, key: bytes, frame: RawFrame) -> None:
        self._written.append((key, frame))
        for listener in self._listeners:
            if listener.key == key and frame.kind == DELTA:
                listener.hear(frame)

    async def listen(self, listener: Listener, _address: str, _since_ms: int) -> None:
        self._listeners.append(listener)
        for key, frame in self._written:
            if key == listener.key and frame.kind == DELTA:
                listener.hear(frame)
        listener.up_to_date()

    def leave(self, listener: Listener) -> None:
        self._listeners = [other for other in self._listeners if other is not listener]


def memory_gateway(settings: Settings) -> tuple[Gateway, Pipeline]:
    log = MemoryLog()
    gateway = Gateway(settings, load_catalogue(), log, "responses/0")
    gateway.history = history = MemoryHistory()

    async def emit(address: str, key: bytes, headers: RawHeaders, value: bytes) -> None:
        assert address == gateway.reply_to
        history.write(key, RawFrame(dict(headers), value))
        gateway.calls.dispatch([Record(key, value, headers)])

    log.pipeline = Pipeline(emit)
    return gateway, log.pipeline


def add_key(gateway: Gateway, key: ApiKey) -> str:
    """The new key's secret."""
    secret = new_api_key()
    gateway.keyring.apply([Record(hash_api_key(secret), key.model_dump_json().encode(), [])])
    return secret


@contextlib.asynccontextmanager
async def memory_api(settings: Settings) -> AsyncIterator[tuple[Api, Gateway]]:
    gateway, pipeline = memory_gateway(settings)
    secret = add_key(gateway, ApiKey(id="k1", tenant="acme", created_at=0))
    stop = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        idle = asyncio.create_task(asyncio.sleep(3600))
        serving = asyncio.create_task(serve(gateway, listener, stop, idle))
        port = listener.getsockname()[1]
        try:
            yield Api(f"http://127.0.0.1:{port}", secret, pipeline), gateway
        finally:
            stop.set()
            await serving
            idle.cancel()


@contextlib.asynccontextmanager
async def kafka_pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    """Reads `requests` from its end, writes frames to `responses`."""
    topics = Topics.of(settings)
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, max_request_size=settings.max_body_bytes
    )
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers, enable_auto_commit=False)

    async def emit(address: str, key: bytes, headers: RawHeaders, value: bytes) -> None:
        topic, partition = ReplyTo.parse(address)
        await producer.send(topic, value, key, partition, headers=headers)

    pipeline = Pipeline(emit)

    async def follow() -> None:
        async for record in consumer:
            await pipeline.handle(record.key, record.value, record.headers)

    async with producer, consumer:
        consumer.assign([TopicPartition(topics.requests, number) for number in range(settings.request_partitions)])
        await consumer.seek_to_end()
        following = asyncio.create_task(follow())
        try:
            yield pipeline
        finally:
            following.cancel()
            await asyncio.wait((following,))


async def write_key(settings: Settings, secret: str, key: ApiKey | None) -> None:
    """None revokes."""
    value = key.model_dump_json().encode() if key else None
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        await producer.send_and_wait(Topics.of(settings).api_keys, value, hash_api_key(secret))


@contextlib.asynccontextmanager
async def ingress_process(settings: Settings) -> AsyncIterator[tuple[str, asyncio.subprocess.Process]]:
    """The service in a process of its own; killed at the end if it still runs."""
    port = free_port()
    changed = settings.model_dump(mode="json", exclude_defaults=True) | {"ingress_port": port}
    environment = {f"MILLRACE_{name.upper()}": str(value) for name, value in changed.items()}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _PROGRAM, env=os.environ | environment)
    ended = asyncio.create_task(process.wait())
    try:
        await until_ready(f"http://127.0.0.1:{port}", ended)
        yield f"http://127.0.0.1:{port}", process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await ended


_PROGRAM = """
from contracts.runtime import main
from contracts.settings import settings
from ingress.service import run
main(run, settings())
"""


@contextlib.asynccontextmanager
async def kafka_ingress(settings: Settings) -> AsyncIterator[str]:
    """The service itself, in this process; its URL, once it is ready."""
    settings = settings.model_copy(update={"ingress_port": free_port()})
    stop = asyncio.Event()
    running = asyncio.create_task(run(settings, stop=stop))
    url = f"http://127.0.0.1:{settings.ingress_port}"
    try:
        await until_ready(url, running)
        yield url
    finally:
        stop.set()
        await running


async def until_ready(url: str, running: "asyncio.Task[Any]") -> None:
    """Raises what `running` raises, and TimeoutError past the deadline."""
    async with httpx.AsyncClient(base_url=url) as client, asyncio.timeout(DEADLINE_SECONDS):
        while not running.done():
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)
    running.result()
