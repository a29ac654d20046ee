"""What each engine did with its time, told on `engine-time`: in stretches without a gap, and a last one at the end.

A stretch that Kafka doesn't take is told again before the next; it is known by its number, so twice is once. What a
killed worker hadn't told is lost: at most one stretch, and that it told no last one shows it.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import Self

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from contracts.catalogue import ModelSpec
from contracts.clock import now_ms
from contracts.engine_time import EngineTime
from contracts.settings import Settings
from contracts.topics import Topics
from inference.engine_time import EngineMeter

log = structlog.get_logger()
_LAST_WORD_SECONDS = 5.0


@dataclass(slots=True)
class EngineBook:
    """One engine's. `since` is UTC ms."""

    model: str
    version: str
    engine: str
    gpus: int
    gpu_hour_nano: int
    every_ms: int
    meter: EngineMeter
    since: int
    sequence: int = 0
    untold: list[EngineTime] = field(default_factory=list)

    @classmethod
    def open(cls, model: str, spec: ModelSpec, settings: Settings) -> Self:
        """Before the engine starts: loading its model takes GPU time, too."""
        engine = spec.engine or settings.worker_engine
        gpus = spec.gpus if spec.gpus is not None else int(engine != "openai")
        rate = settings.gpu_hour_dollars if spec.gpu_hour is None else spec.gpu_hour
        every_ms = settings.engine_time_seconds * 1000
        return cls(model, spec.version, engine, gpus, rate, every_ms, EngineMeter(gpus * rate), now_ms())

    def close_stretch(self, worker: str, *, last: bool = False) -> None:
        """What was done since the last one is to be told."""
        until = max(now_ms(), self.since)
        stretch = EngineTime(
            worker=worker,
            model=self.model,
            model_version=self.version,
            engine=self.engine,
            sequence=self.sequence,
            last=last,
            since=self.since,
            until=until,
            every_ms=self.every_ms,
            gpus=self.gpus,
            gpu_hour_nano=self.gpu_hour_nano,
            **asdict(self.meter.cut()),
        )
        self.untold.append(stretch)
        self.since, self.sequence = until, self.sequence + 1


@asynccontextmanager
async def telling(
    books: Sequence[EngineBook], worker: str, producer: AIOKafkaProducer, settings: Settings
) -> AsyncIterator[None]:
    """Tells of all engines while within, and their last stretches at the end."""
    topic = Topics.of(settings).engine_time
    task = asyncio.create_task(_tell_regularly(books, worker, producer, topic, settings.engine_time_seconds))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        for book in books:
            book.close_stretch(worker, last=True)
        try:
            async with asyncio.timeout(_LAST_WORD_SECONDS):
                await _tell(books, producer, topic)
        except (KafkaError, TimeoutError) as error:
            log.warning("What the engines did last could not be told.", error=repr(error))


async def _tell_regularly(
    books: Sequence[EngineBook], worker: str, producer: AIOKafkaProducer, topic: str, seconds: int
) -> None:
    """At whole multiples of `seconds`, so that an hour has whole stretches."""
    while True:
        await asyncio.sleep(seconds - time.time() % seconds)
        for book in books:
            book.close_stretch(worker)
        try:
            await _tell(books, producer, topic)
        except KafkaError as error:
            log.warning("What the engines did will be told later.", error=repr(error))


async def _tell(books: Sequence[EngineBook], producer: AIOKafkaProducer, topic: str) -> None:
    """Raises KafkaError; what was delivered by then isn't told again."""
    for book in books:
        while book.untold:
            stretch = book.untold[0]
            await producer.send_and_wait(topic, stretch.model_dump_json().encode(), key=book.model.encode())
            book.untold.pop(0)
