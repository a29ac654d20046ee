"""How far every consumer group is behind its topics, also when nobody of the group lives; in tokens, too.

Asked of Kafka by each streams process, since one of them is always there: without streams nothing flows anyway.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.catalogue import Catalogue
from contracts.envelope import Lane
from contracts.instruments import gauges
from contracts.kafka import client_options
from contracts.metrics import LAG, LAG_TOKENS
from contracts.settings import Settings
from contracts.topics import LANES, Topics, all_topics
from streams.metrics import recent

_EVERY_SECONDS = 5.0
_log = structlog.get_logger()
Offsets = Mapping[TopicPartition, int]


class LagWatch:
    """`mean_tokens`: of a request to a model, where this process has routed none yet."""

    def __init__(self, settings: Settings, catalogue: Catalogue, mean_tokens: Callable[[str], float]) -> None:
        self._options = client_options(settings)
        self._models = list(catalogue.models)
        self._topics = Topics.of(settings)
        self._partitions = {spec.name: spec.partitions for spec in all_topics(settings, catalogue)}
        self._mean_tokens = mean_tokens
        self._read = _read(self._topics, self._models)
        self._records, self._tokens = gauges(LAG), gauges(LAG_TOKENS)

    async def run(self) -> None:
        """Never returns; what Kafka doesn't tell isn't told."""
        while True:
            try:
                await self._watch()
            except (KafkaError, OSError) as error:
                _log.info("lag can't be read now", reason=repr(error))
                self._records.forget()
                self._tokens.forget()
            await asyncio.sleep(_EVERY_SECONDS)

    async def _watch(self) -> None:
        async with AsyncExitStack() as stack:
            admin = AIOKafkaAdminClient(**self._options)
            stack.push_async_callback(admin.close)
            await admin.start()
            consumer = AIOKafkaConsumer(**self._options, enable_auto_commit=False)
            stack.push_async_callback(consumer.stop)
            await consumer.start()
            while True:
                await self._look(admin, consumer)
                await asyncio.sleep(_EVERY_SECONDS)

    async def _look(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer) -> None:
        committed = {group: await _committed(admin, group) for group in self._read}
        topics = {topic for read in self._read.values() for topic in read}
        places = [TopicPartition(topic, n) for topic in topics for n in range(self._partitions[topic])]
        begins = await consumer.beginning_offsets(places)
        ends = await consumer.end_offsets(places)
        for group, read in self._read.items():
            for topic in read:
                mine = [place for place in places if place.topic == topic]
                lag = sum(ends[place] - max(committed[group].get(place, 0), begins[place]) for place in mine)
                self._records[group, topic].set(lag)
                if lane := self._lane(topic):
                    self._tokens[lane].set(self._in_tokens(*lane, lag))

    def _lane(self, topic: str) -> tuple[str, Lane] | None:
        return next(((m, lane) for m in self._models for lane in LANES if self._topics.work(m, lane) == topic), None)

    def _in_tokens(self, model: str, lane: Lane, records: int) -> int:
        """Those of the last ones that were routed here; what goes beyond these is taken to be as they are."""
        last = recent[model, lane]
        if not last:
            return round(records * self._mean_tokens(model))
        if records < len(last):
            return sum(list(last)[len(last) - records :])
        return round(records * sum(last) / len(last))


def _read(topics: Topics, models: list[str]) -> dict[str, list[str]]:
    """Groups and what they read."""
    streams = [topics.requests, topics.admitted, topics.completions, topics.control, topics.usage]
    workers = {topics.worker_group(model): [topics.work(model, lane) for lane in LANES] for model in models}
    sides = [topics.feedback, topics.engine_time, topics.duplicates]
    analytics = {topics.sink_group: [topics.usage], topics.feedback_group: sides}
    return {topics.streams_app: streams} | workers | analytics


async def _committed(admin: AIOKafkaAdminClient, group: str) -> Offsets:
    found = await admin.list_consumer_group_offsets(group)
    return {place: kept.offset for place, kept in found.items() if kept.offset >= 0}
