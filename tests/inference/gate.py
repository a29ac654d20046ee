"""An engine whose jobs wait for the test, and a consumer around it in this process."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaProducer

from contracts.catalogue import ModelSpec
from contracts.kafka import producer_options
from contracts.settings import EngineName, Settings
from contracts.topics import Topics
from inference.consumer import ModelConsumer
from inference.deltas import Coalescer
from inference.engine import Engine, Finish, Job, Step
from inference.frames import Frames
from inference.generation import Generator
from inference.orders import Orders
from inference.outbox import Outbox
from inference.readback import Readback
from inference.reply import ReplyAddresses
from inference.solitude import Solitude
from tests.inference.harness import MODEL


class GateEngine:
    """Each job waits until it is released, or fails with what the test gave for it."""

    name: EngineName = "synthetic"
    capacity: int | None = None

    def __init__(self) -> None:
        self.started: list[str] = []  # keys, in order
        self.running: set[str] = set()
        self.most_running = 0
        self.failures: dict[str, Exception] = {}
        self._open = False
        self._released: set[str] = set()
        self._news = asyncio.Condition()

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    def continues(self, job: Job) -> bool:  # noqa: ARG002
        return False

    def cancel(self, job: Job) -> bool:  # noqa: ARG002
        return False

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        self.started.append(job.key)
        self.running.add(job.key)
        self.most_running = max(self.most_running, len(self.running))
        try:
            async with self._news:
                self._news.notify_all()
                await self._news.wait_for(lambda: self._open or job.key in self._released)
            if failure := self.failures.get(job.key):
                raise failure
            yield Step("done", 1, Finish("stop", job.prompt_estimate, 1))
        finally:
            self.running.discard(job.key)

    async def until_started(self, count: int) -> None:
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(lambda: len(self.started) >= count)

    async def release(self, *keys: str) -> None:
        """These jobs, or every one from now on."""
        async with self._news:
            self._released |= set(keys)
            self._open = self._open or not keys
            self._news.notify_all()


class Station:
    """A running consumer; `died` when it gave up, where the program would have ended."""

    def __init__(self, producer: AIOKafkaProducer, consumer: ModelConsumer) -> None:
        self.consumer = consumer
        self.producer = producer
        self.died = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


@asynccontextmanager
async def open_station(
    settings: Settings,
    engine: Engine,
    *,
    room: int = 64,
    worker: str = "w",
    drain: float = 0.1,
) -> AsyncIterator[Station]:
    topics = Topics.of(settings)
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        coalescer = Coalescer(settings.worker_coalesce_ms)
        readback = Readback(settings)
        frames = Frames(producer, ReplyAddresses(producer, topics), coalescer, readback)
        orders = Orders()
        generator = Generator(MODEL, ModelSpec(), engine, frames, orders, worker, settings.worker_stall_seconds)
        consumer = ModelConsumer(
            MODEL, settings, generator, Outbox(producer, topics), room, lambda _: station.died.set(), Solitude()
        )
        station = Station(producer, consumer)
        await consumer.start()
        station.task = asyncio.create_task(consumer.run())
        try:
            async with asyncio.timeout(30):
                await consumer.joined.wait()
            yield station
        finally:
            station.task.cancel()
            await asyncio.wait({station.task})
            await consumer.stop(drain)
            await coalescer.close()
            await readback.close()
