"""The worker program: an engine and a consumer per model, one producer for all."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.catalogue import Catalogue, ModelSpec, load_catalogue
from contracts.errors import ConfigError, KafkaUnavailable
from contracts.kafka import producer_of, started
from contracts.runtime import notify_ready
from contracts.settings import Settings
from contracts.topics import LANES, Topics
from inference.consumer import ModelConsumer
from inference.deltas import Coalescer
from inference.engine import Engine, open_engine
from inference.engine_book import EngineBook, telling
from inference.engine_time import EngineMeter
from inference.frames import Frames
from inference.generation import Generator
from inference.gpu import watch_gpus
from inference.heartbeat import Heartbeat
from inference.locator import Locator
from inference.orders import Orders
from inference.orders_log import followed
from inference.outbox import Outbox, die
from inference.readback import Readback
from inference.reply import ReplyAddresses
from inference.solitude import Solitude

log = structlog.get_logger()
_BATCH_BYTES = 1_000_000  # one produce batch: room for a frame of every stream while one batch is under way
_LEAVE_SECONDS = 5.0  # to commit and leave the group, beyond the time to drain


async def run(settings: Settings, *, stop: asyncio.Event) -> None:
    """Serve until told to stop, then drain; waits for a Kafka that isn't there yet. Raises MillraceError."""
    models = choose_models(load_catalogue(settings.routes_file), settings.worker_models)
    books = [EngineBook.open(model, spec, settings) for model, spec in models.items()]
    async with AsyncExitStack() as stack:
        engines = [await stack.enter_async_context(_started(open_engine(*model, settings))) for model in models.items()]
        try:
            producer = await stack.enter_async_context(_open_producer(settings, stop))
            if producer is None:
                return
            await _check_topics(producer, settings, models)
            watch_gpus()
            coalescer = Coalescer(settings.worker_coalesce_ms)
            stack.push_async_callback(coalescer.close)
            readback = Readback(settings)
            stack.push_async_callback(readback.close)
            frames = Frames(producer, ReplyAddresses(producer, Topics.of(settings)), coalescer, readback)
            orders = Orders()
            obeying = await stack.enter_async_context(followed(settings, models, orders))
            obeying.add_done_callback(_check_obeying)
            worker = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"
            meters = [book.meter for book in books]
            consumers = _build(worker, models, engines, meters, frames, orders, settings)
            await stack.enter_async_context(Heartbeat(producer, Topics.of(settings), worker, consumers).beating())
            orders.on_question(Locator(consumers, frames).answer)
            async with telling(books, worker, producer, settings):
                await _serve(consumers, stop, settings.worker_drain_seconds)
        except KafkaError as error:
            raise KafkaUnavailable(f"Kafka at {settings.kafka_bootstrap_servers} fails: {error!r}") from None


def choose_models(catalogue: Catalogue, names: str) -> dict[str, ModelSpec]:
    """The catalogue's models, or those that a comma-separated list names. Raises ConfigError."""
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(catalogue.models)
    for name in wanted:
        if name not in catalogue.models:
            raise ConfigError(
                f"MILLRACE_WORKER_MODELS names {name!r}; the catalogue has {', '.join(sorted(catalogue.models))}."
            )
    return {name: catalogue.models[name] for name in wanted}


def _build(
    worker: str,
    models: dict[str, ModelSpec],
    engines: Iterable[Engine],
    meters: Iterable[EngineMeter],
    frames: Frames,
    orders: Orders,
    settings: Settings,
) -> list[ModelConsumer]:
    outbox = Outbox(frames.producer, Topics.of(settings))
    solitude = Solitude()
    consumers = []
    for (model, spec), engine, meter in zip(models.items(), engines, meters, strict=True):
        generator = Generator(model, spec, engine, frames, orders, worker, settings.worker_stall_seconds, meter)
        room = min(settings.worker_max_in_flight, engine.capacity or settings.worker_max_in_flight)
        consumers.append(ModelConsumer(model, settings, generator, outbox, room, die, solitude))
    return consumers


async def _serve(consumers: list[ModelConsumer], stop: asyncio.Event, drain_seconds: float) -> None:
    await asyncio.gather(*(consumer.start() for consumer in consumers))
    running = [asyncio.create_task(consumer.run()) for consumer in consumers]
    ready = asyncio.create_task(_announce(consumers))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    for task in (ready, stopping, *running):
        task.cancel()
    results = await asyncio.gather(*running, return_exceptions=True)
    try:
        async with asyncio.timeout(drain_seconds + _LEAVE_SECONDS):
            await asyncio.gather(*(consumer.stop(drain_seconds) for consumer in consumers))
    except TimeoutError:
        log.warning("Kafka doesn't answer: what is finished may be run again.")
    for result in results:
        if isinstance(result, Exception):
            raise result


def _check_obeying(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        die(f"Orders can't be followed: {error!r}")


async def _announce(consumers: list[ModelConsumer]) -> None:
    for consumer in consumers:
        await consumer.joined.wait()
    log.info("Worker ready.", models=[consumer.model for consumer in consumers])
    notify_ready()


@asynccontextmanager
async def _started(engine: Engine) -> AsyncIterator[Engine]:
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


@asynccontextmanager
async def _open_producer(settings: Settings, stop: asyncio.Event) -> AsyncIterator[AIOKafkaProducer | None]:
    """None when told to stop before Kafka was there."""
    make = partial(producer_of, settings, max_batch_size=_BATCH_BYTES, metadata_max_age_ms=5000)
    producer = await started(make, settings, stop)
    try:
        yield producer
    finally:
        if producer:
            with suppress(TimeoutError):
                await asyncio.wait_for(producer.stop(), _LEAVE_SECONDS)


async def _check_topics(producer: AIOKafkaProducer, settings: Settings, models: Iterable[str]) -> None:
    """A consumer of a topic that doesn't exist would wait in silence. Raises ConfigError."""
    topics = Topics.of(settings)
    needed = {topics.completions, topics.responses, topics.control, topics.dead_letters}
    needed |= {topics.engine_time, topics.workers}
    needed |= {topics.work(model, lane) for model in models for lane in LANES}
    present = (await producer.client.fetch_all_metadata()).topics()
    if missing := sorted(needed - present):
        raise ConfigError(f"Kafka has no topic {', '.join(missing)}: run `millrace topics create` first.")
