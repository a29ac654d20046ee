"""The fetch of Faust's consumer: what it took from Kafka is handed over, or comes again."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from faust.types import TP

from streams.faust_consumer import LoopConsumer

TOPIC = TopicPartition("requests", 0)


class Kafka:
    """A partition of ten records that was read up to 4: a consumer and its fetcher in one."""

    def __init__(self) -> None:
        self.log = [SimpleNamespace(offset=offset) for offset in range(10)]
        self.position = 4
        self.assigned = {TOPIC}
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self._fetcher = self
        self._subscriptions = SimpleNamespace(fetch_context=nullcontext)

    async def fetched_records(self, *_: object, **__: object) -> dict[TopicPartition, list[Any]]:
        self.asked.set()
        await self.may_answer.wait()
        records, self.position = self.log[self.position :], len(self.log)
        return {TOPIC: records} if records else {}

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def seek(self, topic: TopicPartition, offset: int) -> None:
        assert topic in self.assigned
        self.position = offset


class Consumer(LoopConsumer):  # type: ignore[misc]
    """Only what a fetch needs."""

    def __init__(self, kafka: Kafka) -> None:  # Faust's own wants a whole app
        self._kafka = kafka
        self._active_partitions = {TP(*TOPIC)}
        self._read_offset = defaultdict(lambda: 4)
        self.flow_active = True
        self.app = SimpleNamespace(flow_control=SimpleNamespace(is_active=lambda: True))
        self.handed: list[int] = []

    def _hand_over(self, _: TP, records: list[Any]) -> None:
        self.handed += [record.offset for record in records]


@pytest.fixture
def kafka() -> Kafka:
    return Kafka()


@pytest.fixture
def consumer(kafka: Kafka) -> Consumer:
    return Consumer(kafka)


@asynccontextmanager
async def fetching(consumer: Consumer, kafka: Kafka) -> AsyncIterator[None]:
    """Something happens while a fetch waits for records."""
    fetch = asyncio.create_task(consumer._drain_once())
    await kafka.asked.wait()
    yield
    kafka.may_answer.set()
    await fetch


async def test_hands_over_what_it_fetched(consumer: Consumer, kafka: Kafka) -> None:
    async with fetching(consumer, kafka):
        pass
    assert consumer.handed == [4, 5, 6, 7, 8, 9]


async def test_what_comes_after_the_seek_of_a_rebalance_comes_again(consumer: Consumer, kafka: Kafka) -> None:
    """Or Faust takes it for a gap in the log and commits beyond it: a request is lost."""
    async with fetching(consumer, kafka):
        consumer.flow_active = False
        kafka.seek(TOPIC, 2)
    assert not consumer.handed
    consumer.flow_active = True
    await consumer._drain_once()
    assert consumer.handed == [2, 3, 4, 5, 6, 7, 8, 9]


async def test_what_belongs_to_another_now_is_let_go(consumer: Consumer, kafka: Kafka) -> None:
    async with fetching(consumer, kafka):
        consumer.flow_active = False
        kafka.assigned = set()
    assert not consumer.handed
