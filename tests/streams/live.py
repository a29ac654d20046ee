"""Streams as processes of their own on a real Kafka, and those around them played by hand."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contracts.completion import Completion
from contracts.envelope import RequestType
from contracts.headers import RawHeaders
from contracts.kafka import client_options, producer_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import REQUEST_TABLE, Topics
from millrace.service_process import ServiceProcess, ServiceSpec

DEADLINE_SECONDS = 30.0
PROGRAM = (
    "from contracts.runtime import main; from contracts.settings import settings; from streams.service import run; "
)
PROGRAM += "main(run, settings())"


def streams_process(settings: Settings, folder: Path, name: str = "streams") -> ServiceProcess:
    given = {
        f"MILLRACE_{field.upper()}": str(value) for field, value in settings.model_dump(exclude_unset=True).items()
    }
    spec = ServiceSpec(
        name=name,
        command=[sys.executable, "-c", PROGRAM],
        environment={**os.environ, **given},
        log=folder / f"{name}.log",
        ready_seconds=60.0,
    )
    return ServiceProcess(spec)


@asynccontextmanager
async def running(*processes: ServiceProcess) -> AsyncIterator[None]:
    """Each one ready; stopped in the end."""
    try:
        await asyncio.gather(*(process.start() for process in processes))
        yield
    finally:
        await asyncio.gather(*(process.stop() for process in processes))


class Reader:
    """Everything that is on a topic, from its beginning; `arrived` waits for what is still to come."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._consumer = AIOKafkaConsumer(
            **client_options(settings), auto_offset_reset="earliest", enable_auto_commit=False, fetch_max_wait_ms=100
        )
        self._news = asyncio.Condition()
        self.records: list[ConsumerRecord] = []
        self.handlers: list[Callable[[ConsumerRecord], None]] = []

    async def run(self) -> None:
        async with self._consumer as consumer:
            partitions = await consumer._client._wait_on_metadata(self._topic)
            consumer.assign([TopicPartition(self._topic, number) for number in partitions])
            while True:
                record = await consumer.getone()
                for handler in self.handlers:
                    handler(record)
                async with self._news:
                    self.records.append(record)
                    self._news.notify_all()

    async def arrived(
        self,
        wanted: Callable[[ConsumerRecord], bool] = lambda _: True,
        count: int = 1,
        within: float = DEADLINE_SECONDS,
    ) -> list[ConsumerRecord]:
        """Raises TimeoutError when fewer come."""
        found: list[ConsumerRecord] = []

        def enough() -> bool:
            found[:] = [record for record in self.records if wanted(record)]
            return len(found) >= count

        async with asyncio.timeout(within), self._news:
            await self._news.wait_for(enough)
        return found


class Live:
    """A client, a worker and readers of every topic that tells something."""

    def __init__(self, settings: Settings, producer: AIOKafkaProducer, readers: dict[str, Reader]) -> None:
        self.settings = settings
        self.topics = Topics.of(settings)
        self.producer = producer
        self.readers = readers
        self.works = True  # whether the worker ends what it gets
        self._held: dict[tuple[bytes, str], ConsumerRecord] = {}  # by key and attempt
        self._tasks: set[asyncio.Task[object]] = set()
        self._number = 0

    async def ask(
        self,
        key: str,
        value: bytes | None = None,
        *,
        kind: RequestType = RequestType.REQUEST,
        reply_to: str = "",
        partition: int | None = None,
        headers: RawHeaders | None = None,
        at: int | None = None,
    ) -> str:
        """The record's ce_id. `at`: its timestamp, UTC ms."""
        self._number += 1
        ce_id = f"id-{self._number}"
        sent = [("ce_type", kind.encode()), ("ce_id", ce_id.encode()), *(headers or [])]
        if reply_to:
            sent.append(("reply-to", reply_to.encode()))
        await self.producer.send_and_wait(
            self.topics.requests, value or b"", key=key.encode(), headers=sent, partition=partition, timestamp_ms=at
        )
        return ce_id

    async def told(self, key: str, *, kind: str = "", ce_id: str = "", topic: str = "") -> ConsumerRecord:
        """The first such frame."""
        reader = self.readers[topic or self.topics.responses]

        def wanted(frame: ConsumerRecord) -> bool:
            return (
                frame.key == key.encode()
                and (not kind or head(frame, "kind") == kind)
                and (not ce_id or head(frame, "in-reply-to") == ce_id)
            )

        return (await reader.arrived(wanted))[0]

    def work(self, record: ConsumerRecord) -> None:
        """The worker: ends a run at once, or holds it."""
        if self.works:
            self.finish(record)
        else:
            self._held[record.key, head(record, "attempt")] = record

    async def held(self, key: str, attempt: str = "") -> ConsumerRecord:
        """The work record of that key, which the worker holds. A crash may make it come twice."""
        name = key.encode(), attempt
        async with asyncio.timeout(DEADLINE_SECONDS):
            while name not in self._held:  # noqa: ASYNC110 - filled by a reader's callback
                await asyncio.sleep(0.01)
        return self._held.pop(name)

    def finish(self, work: ConsumerRecord, outcome: Outcome = Outcome.SUCCEEDED) -> None:
        self._number += 1
        ended = Completion(
            outcome=outcome,
            status=200 if outcome is Outcome.SUCCEEDED else 500,
            run=f"run-{self._number}",
            prompt_tokens=7,
            completion_tokens=5,
            started_at=work.timestamp,
            finished_at=work.timestamp,
        )
        answer = orjson.dumps({"id": ended.run})
        sending = self.producer.send_and_wait(
            self.topics.completions, answer, key=work.key, headers=[*work.headers, *ended.to_headers()]
        )
        task = asyncio.ensure_future(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def usage(self, key: str) -> set[bytes]:
        """The distinct usage events of a request, once there is one."""
        key = key.partition(":")[2]
        reader = self.readers[self.topics.usage]
        events = await reader.arrived(lambda record: b'"idempotency_key":"%b"' % key.encode() in record.value)
        return {event.value for event in events}


@asynccontextmanager
async def live(settings: Settings, *reply_topics: str) -> AsyncIterator[Live]:
    topics = Topics.of(settings)
    work = [topics.work(model, lane) for model in ("small", "large") for lane in ("interactive", "batch")]
    told = [topics.responses, topics.usage, topics.dead_letters, topics.admitted, topics.changelog(REQUEST_TABLE)]
    told += reply_topics
    readers = {topic: Reader(settings, topic) for topic in told + work}
    tasks = [asyncio.create_task(reader.run()) for reader in readers.values()]
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        played = Live(settings, producer, readers)
        for topic in work:
            readers[topic].handlers.append(played.work)
        try:
            yield played
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def head(record: ConsumerRecord, name: str) -> str:
    return str(dict(record.headers).get(name, b""), "utf-8")
