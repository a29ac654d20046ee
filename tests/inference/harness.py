"""A worker's surroundings on the real broker: work goes in, completions and frames come out."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import OffsetAndMetadata

from contracts.completion import ESCALATED, SHADOW_WANTED, SHADOWED, Completion, Escalation, Shadowed, ShadowWanted
from contracts.control import Control, ControlType
from contracts.envelope import Lane
from contracts.frames import Frame
from contracts.kafka import producer_options
from contracts.settings import Settings
from contracts.topics import Topics
from millrace.service_process import ServiceProcess, ServiceSpec
from tests.inference.jobs import chat, work_headers

DEADLINE_SECONDS = 30.0
MODEL = "small"
ROOT = Path(__file__).parents[2]
_NO_ENDS: dict[str, type[Escalation | ShadowWanted | Shadowed]] = {
    ESCALATED: Escalation,
    SHADOW_WANTED: ShadowWanted,
    SHADOWED: Shadowed,
}


@dataclass
class Outcome:
    """A completions record, read."""

    record: ConsumerRecord
    completion: Completion | Escalation | ShadowWanted | Shadowed
    body: dict[str, Any]

    @property
    def key(self) -> str:
        return str(self.record.key.decode())

    @property
    def text(self) -> str:
        choice = self.body["choices"][0]
        return str(choice["text"] if "text" in choice else choice["message"]["content"])


@dataclass
class Log:
    """What has come on the worker's output topics, in order of arrival."""

    completions: list[Outcome] = field(default_factory=list)
    frames: list[tuple[ConsumerRecord, Frame]] = field(default_factory=list)
    dead_letters: list[ConsumerRecord] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, check: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
        async with asyncio.timeout(seconds), self.news:
            await self.news.wait_for(check)

    async def completed(self, count: int, seconds: float = DEADLINE_SECONDS) -> list[Outcome]:
        await self.until(lambda: len(self.completions) >= count, seconds)
        return self.completions

    async def answered(self, keys: Iterable[str], seconds: float = DEADLINE_SECONDS) -> None:
        wanted = set(keys)
        await self.until(lambda: wanted <= {outcome.key for outcome in self.completions}, seconds)

    def frames_of(self, key: str) -> list[tuple[ConsumerRecord, Frame]]:
        return [(record, frame) for record, frame in self.frames if record.key == key.encode()]


class Bench:
    """Puts work on a model's topics and sees what becomes of it."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, log: Log) -> None:
        self.settings = settings
        self.topics = Topics.of(settings)
        self.producer = producer
        self.log = log

    async def put(
        self,
        key: str,
        body: dict[str, Any] | None = None,
        *,
        lane: Lane = "interactive",
        partition: int | None = None,
        claim: str = "0.0",
        **headers: Any,
    ) -> None:
        value = orjson.dumps(body or chat(max_tokens=5))
        record_headers = work_headers(value, key=key, claim=claim, lane=lane, **headers)
        await self.producer.send_and_wait(
            self.topics.work(MODEL, lane), value, key=key.encode(), partition=partition, headers=record_headers
        )

    async def order(self, key: str, claim: str, kind: ControlType = ControlType.ABORT) -> None:
        """As the owner of the key gives it."""
        headers = Control(ce_id="test", ce_type=kind, claim=claim).to_headers()
        await self.producer.send_and_wait(self.topics.control, b"", key=key.encode(), headers=headers)

    async def committed(self) -> dict[TopicPartition, int]:
        """The group's positions, partitions without one left out."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        await admin.start()
        try:
            found: dict[TopicPartition, OffsetAndMetadata] = await admin.list_consumer_group_offsets(
                self.topics.worker_group(MODEL)
            )
        finally:
            await admin.close()
        return {partition: position.offset for partition, position in found.items() if position.offset > 0}

    async def until_committed(self, total: int, seconds: float = DEADLINE_SECONDS) -> None:
        """Until the positions of all partitions add up to `total` records."""
        async with asyncio.timeout(seconds):
            while sum((await self.committed()).values()) != total:  # noqa: ASYNC110 - the broker tells nobody
                await asyncio.sleep(0.05)


@asynccontextmanager
async def open_bench(settings: Settings, *, frames: bool = True) -> AsyncIterator[Bench]:
    log = Log()
    topics = Topics.of(settings)
    names = [topics.completions, topics.dead_letters, *([topics.responses] if frames else [])]
    consumer = AIOKafkaConsumer(
        *names, bootstrap_servers=settings.kafka_bootstrap_servers, auto_offset_reset="earliest"
    )
    producer = AIOKafkaProducer(**producer_options(settings))
    async with consumer, producer:
        reading = asyncio.create_task(_read(consumer, topics, log))
        yield Bench(settings, producer, log)
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def _read(consumer: AIOKafkaConsumer, topics: Topics, log: Log) -> None:
    async for record in consumer:
        if record.topic == topics.completions:
            kind = _NO_ENDS.get(dict(record.headers)["outcome"].decode(), Completion)
            log.completions.append(
                Outcome(record, kind.from_headers(record.headers), orjson.loads(record.value or "{}"))
            )
        elif record.topic == topics.dead_letters:
            log.dead_letters.append(record)
        else:
            log.frames.append((record, Frame.from_headers(record.headers)))
        async with log.news:
            log.news.notify_all()


def write_routes(folder: Path, **timing: float) -> Path:
    """One synthetic model, `small`, that answers at once unless a timing is given."""
    known = {"step_us": 0, "prefill_us_per_token": 0, "decode_us_per_sequence": 0} | timing
    fields = ", ".join(f"{name} = {value}" for name, value in known.items())
    routes = folder / "routes.toml"
    routes.write_text(
        f'version = "test"\n[models.{MODEL}]\nversion = "9"\nsynthetic = {{ {fields} }}\n'
        f'[[rules]]\nname = "all"\nmodel = "{MODEL}"\n'
    )
    return routes


def worker_process(
    settings: Settings,
    folder: Path,
    name: str = "worker",
    *,
    environment: Mapping[str, str] = MappingProxyType({}),
    ready_seconds: float = DEADLINE_SECONDS,
    **more: str,
) -> ServiceProcess:
    """`python -m inference` with these settings; it notifies when it is ready."""
    environment = {
        **environment,
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "HOME": os.environ["HOME"],
        "MILLRACE_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "MILLRACE_TOPIC_PREFIX": settings.topic_prefix,
        "MILLRACE_ROUTES_FILE": str(settings.routes_file),
        **{f"MILLRACE_{key.upper()}": value for key, value in more.items()},
    }
    return ServiceProcess(
        ServiceSpec(
            name=name,
            command=[sys.executable, "-m", "inference"],
            environment=environment,
            log=folder / f"{name}.log",
            ready_seconds=ready_seconds,
        )
    )
