"""How far the log is, and how far those who read it: cheap questions to Kafka, asked only while somebody watches."""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from contracts.kafka import client_options
from contracts.settings import Settings

Places = Mapping[TopicPartition, int]


@dataclass(frozen=True, slots=True)
class Moment:
    """Sums over partitions at one time (UTC seconds)."""

    at: float
    ends: Mapping[str, int]  # records ever written, by topic
    done: Mapping[tuple[str, str], int]  # committed, by group and topic
    lags: Mapping[tuple[str, str], int]  # written and not committed


class KafkaOffsets:
    """Connects at the first question, and anew after a failure. `readers`: the topics that each group reads."""

    def __init__(self, settings: Settings, topics: Mapping[str, int], readers: Mapping[str, Sequence[str]]) -> None:
        self._settings = settings
        self._partitions = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
        self._readers = readers
        self._coordinators: dict[str, Any] = {}
        self._clients: tuple[AIOKafkaConsumer, AIOKafkaAdminClient] | None = None

    async def now(self) -> Moment:
        """Raises KafkaError."""
        try:
            consumer, admin = await self._connected()
            ends = await consumer.end_offsets(self._partitions)
            done = {group: await self._committed(admin, group) for group in self._readers}
        except KafkaError:
            await self.close()
            raise
        return _moment(time.time(), ends, done, self._readers)

    async def past(self, times: Sequence[float]) -> list[tuple[float, dict[str, int]]]:
        """How many records each topic had at these times (UTC seconds). Raises KafkaError."""
        consumer, _ = await self._connected()
        ends = await consumer.end_offsets(self._partitions)
        found = []
        for at in times:
            known = await consumer.offsets_for_times(dict.fromkeys(self._partitions, int(at * 1000)))
            places = {tp: known[tp].offset if known.get(tp) else ends[tp] for tp in self._partitions}
            found.append((at, _sums(places)))
        return found

    async def close(self) -> None:
        clients, self._clients = self._clients, None
        self._coordinators.clear()
        if clients:
            consumer, admin = clients
            await consumer.stop()
            await admin.close()

    async def _connected(self) -> tuple[AIOKafkaConsumer, AIOKafkaAdminClient]:
        if self._clients is None:
            options = client_options(self._settings)
            consumer = AIOKafkaConsumer(**options, enable_auto_commit=False)
            admin = AIOKafkaAdminClient(**options)
            self._clients = consumer, admin
            await consumer.start()
            await admin.start()
        return self._clients

    async def _committed(self, admin: AIOKafkaAdminClient, group: str) -> dict[TopicPartition, int]:
        if group not in self._coordinators:
            self._coordinators[group] = await admin.find_coordinator(group)
        found = await admin.list_consumer_group_offsets(group, group_coordinator_id=self._coordinators[group])
        return {place: meta.offset for place, meta in found.items() if meta.offset >= 0}


def _moment(at: float, ends: Places, done: Mapping[str, Places], readers: Mapping[str, Sequence[str]]) -> Moment:
    pairs = [(group, topic) for group, topics in readers.items() for topic in topics]
    committed, lags = {}, {}
    for group, topic in pairs:
        mine = {place: offset for place, offset in done[group].items() if place.topic == topic}
        committed[group, topic] = sum(mine.values())
        lags[group, topic] = sum(
            max(0, end - mine.get(place, 0)) for place, end in ends.items() if place.topic == topic
        )
    return Moment(at, _sums(ends), committed, lags)


def _sums(places: Places) -> dict[str, int]:
    sums: dict[str, int] = {}
    for place, offset in places.items():
        sums[place.topic] = sums.get(place.topic, 0) + offset
    return sums


def rates(samples: Iterable[tuple[float, Mapping[str, int]]]) -> list[tuple[float, dict[str, float]]]:
    """Records a second between each two samples, at the later one's time."""
    found = []
    for (before, old), (after, new) in pairwise(samples):
        passed = max(after - before, 1e-3)
        found.append((after, {topic: max(0.0, (new[topic] - old.get(topic, 0)) / passed) for topic in new}))
    return found
