"""Open-loop load straight onto Kafka, and what became of it as the log tells: no HTTP in the way of the lanes."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import orjson
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from bench.running_stack import benchmark_stack
from contracts.clock import now_ms
from contracts.completion import Completion
from contracts.envelope import Admitted, Lane
from contracts.kafka import client_options, producer_options
from contracts.settings import Settings
from contracts.topics import Topics

ROUTES = Path(__file__).parent / "slow-engine.toml"
ROOM = 64  # requests in the engine at once
OUTPUT_TOKENS = 100
CAPACITY = 1_950  # tokens per second of the full engine
REQUESTS_PER_SECOND = CAPACITY / OUTPUT_TOKENS  # that it can serve
_QUESTION = "Where is my order? It should have been here on Monday, and now it is Thursday. "


@dataclass(frozen=True, slots=True)
class Ended:
    """One request's end."""

    request: Admitted
    completion: Completion
    estimated_start: int | None = None  # UTC ms, as it was told when it was let through

    @property
    def ttft_ms(self) -> int | None:
        first = self.completion.first_token_at
        return None if first is None else first - self.request.accepted_at

    @property
    def tenant(self) -> str:
        return self.request.request_key.partition(":")[0]

    @property
    def in_time(self) -> bool:
        """Whether its first token came before its deadline."""
        first, deadline = self.completion.first_token_at, self.request.deadline
        return first is not None and (deadline is None or first <= deadline)

    @property
    def tokens(self) -> int:
        return self.completion.completion_tokens


@dataclass
class KafkaLoad:
    """Asks, and sees all ends."""

    producer: AIOKafkaProducer
    topics: Topics
    bootstrap: str
    ended: list[Ended] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)
    asked: int = 0

    async def ask(
        self,
        tenant: str,
        lane: Lane = "interactive",
        deadline_ms: int | None = None,
        output_tokens: int = OUTPUT_TOKENS,
    ) -> str:
        """Returns when it is handed over."""
        self.asked += 1
        key = f"{tenant}:{self.asked}"
        question = f"{self.asked}: {_QUESTION * 4}"
        messages = [{"role": "user", "content": question}]
        body = {"model": "small", "messages": messages, "max_tokens": output_tokens, "ignore_eos": True}
        headers = [("lane", lane.encode())]
        if deadline_ms is not None:
            headers.append(("deadline", b"%d" % (now_ms() + deadline_ms)))
        await self.producer.send(self.topics.requests, orjson.dumps(body), key=key.encode(), headers=headers)
        return key

    async def steadily(self, per_second: float, seconds: float, ask: Callable[[], Awaitable[object]]) -> None:
        """Poisson arrivals; what is late is made up for."""
        chance, clock = random.Random(1), asyncio.get_running_loop().time
        at = began = clock()
        while (at := at + chance.expovariate(per_second)) < began + seconds:
            await asyncio.sleep(max(at - clock(), 0))
            await ask()

    async def at_once(self, count: int, ask: Callable[[], Awaitable[object]]) -> None:
        for _ in range(count):
            await ask()
        await self.producer.flush()

    async def until_queued(self, count: int) -> None:
        """Until so many interactive requests were admitted: then the queue is the worker's."""
        topic = self.topics.work("small", "interactive")
        async with AIOKafkaConsumer(bootstrap_servers=self.bootstrap) as consumer:
            partitions = [TopicPartition(topic, number) for number in range(Settings().work_partitions)]
            while sum((await consumer.end_offsets(partitions)).values()) < count:  # noqa: ASYNC110 - Kafka tells nobody
                await asyncio.sleep(0.2)

    async def until(self, check: Callable[[], bool], seconds: float) -> None:
        async with asyncio.timeout(seconds), self.news:
            await self.news.wait_for(check)

    def of(self, tenant: str) -> list[Ended]:
        return [end for end in self.ended if end.tenant == tenant]

    def between(self, since: float, until: float) -> list[Ended]:
        """Those that ended then, UTC ms."""
        return [end for end in self.ended if since <= end.completion.finished_at < until]

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        async for record in consumer:
            headers = dict(record.headers)
            expected = headers.get("estimated-start")
            ended = Ended(Admitted.from_headers(headers), Completion.from_headers(headers))
            self.ended.append(replace(ended, estimated_start=int(expected)) if expected else ended)
            async with self.news:
                self.news.notify_all()


@asynccontextmanager
async def kafka_load(**settings: str) -> AsyncIterator[KafkaLoad]:
    """A stack with the slow engine, one worker, and nobody else on it."""
    own = {"routes_file": str(ROUTES), "worker_max_in_flight": str(ROOM), "worker_drain_seconds": "0.5"}
    async with benchmark_stack(**(own | settings)) as stack:
        known = Settings(kafka_bootstrap_servers=stack.kafka)
        topics = Topics.of(known)
        producer = AIOKafkaProducer(**producer_options(known))
        consumer = AIOKafkaConsumer(topics.completions, **client_options(known), auto_offset_reset="earliest")
        async with producer, consumer:
            load = KafkaLoad(producer, topics, stack.kafka)
            reading = asyncio.create_task(load.read(consumer))
            yield load
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
