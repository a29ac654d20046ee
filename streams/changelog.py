"""Reading the tables' changelogs: each record is a key and its new value, or its end when the value is empty.

A partition of a table has one owner at a time, but a process that was stopped for long may wake and write once more
before it learns that it isn't the owner any more. So each owner takes an epoch, above all that it has seen, and writes
it into its records; a reader passes over whatever an earlier epoch wrote after a later one. Kafka's compaction knows no
epochs: it would keep the last record of a key, and remove the one that counts. So the owner writes such keys once more.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition

from contracts.clock import now_ms
from contracts.kafka import client_options
from contracts.settings import Settings
from contracts.topics import Topics
from streams.store import Mark, Place, Store, Write

EPOCH = "epoch"
_CHUNK = 5_000  # records
_CHUNK_WAIT_MS = 200
_STALE_MS = 12 * 3_600_000  # deletions are forgotten by the log after a day: what is older is read from the beginning
_log = structlog.get_logger()


class CaughtUp(NamedTuple):
    """`stale`: keys whose last record is one that was passed over."""

    mark: Mark
    stale: set[bytes]


@dataclass(slots=True)
class _Reading:
    """One partition on its way to its log's end."""

    place: Place
    mark: Mark
    end: int
    records: int = 0
    stale: set[bytes] = field(default_factory=set)


class Changelog:
    """Brings partitions of the store up to date. An async context manager: it keeps a connection."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._topics = Topics.of(settings)
        self._store = store
        self._consumer = AIOKafkaConsumer(
            **client_options(settings), enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
        )
        self._reading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    def topic(self, place: Place) -> TopicPartition:
        return TopicPartition(self._topics.changelog(place.table), place.partition)

    async def catch_up(self, places: Iterable[Place]) -> dict[Place, CaughtUp]:
        """Read to the present end. May be cancelled: what was read by then is kept."""
        async with self._reading:
            started = time.monotonic()
            readings = await self._plan(list(places))
            await self._read({self.topic(reading.place): reading for reading in readings})
        count = sum(reading.records for reading in readings)
        _log.info("tables recovered", partitions=len(readings), records=count, seconds=_seconds(started))
        return {reading.place: CaughtUp(reading.mark, reading.stale) for reading in readings}

    async def between(self, place: Place, start: int, stop: int) -> tuple[int, set[bytes]]:
        """The newest epoch among the records with start <= offset < stop, and their keys."""
        newest, keys = 0, set[bytes]()
        topic = self.topic(place)
        async with self._reading:
            self._consumer.assign([topic])
            self._consumer.seek(topic, start)
            while await self._consumer.position(topic) < stop:
                for record in await self._chunk(topic):
                    if record.offset < stop:
                        newest = max(newest, _epoch(record))
                        keys.add(record.key)
            self._consumer.pause(topic)
        return newest, keys

    async def _plan(self, places: list[Place]) -> list[_Reading]:
        topics = [self.topic(place) for place in places]
        begins = await self._consumer.beginning_offsets(topics)
        ends = await self._consumer.end_offsets(topics)
        return [
            _Reading(place, self._start(place, begins[topic], ends[topic]), ends[topic])
            for place, topic in zip(places, topics, strict=True)
        ]

    def _start(self, place: Place, begin: int, end: int) -> Mark:
        mark = self._store.mark(place)
        if mark and begin <= mark.position <= end and now_ms() - mark.at < _STALE_MS:
            return mark
        if mark:
            self._store.clear(place)
        return Mark(begin, 0, now_ms())

    async def _read(self, readings: dict[TopicPartition, _Reading]) -> None:
        behind = {topic for topic, reading in readings.items() if reading.mark.position < reading.end}
        if not behind:
            return
        self._consumer.assign(list(behind))
        for topic in behind:
            self._consumer.seek(topic, readings[topic].mark.position)
        while behind:
            chunk = await self._consumer.getmany(timeout_ms=_CHUNK_WAIT_MS, max_records=_CHUNK)
            for topic, records in chunk.items():
                self._apply(readings[topic], records)
            for topic in list(behind):
                position = await self._consumer.position(topic)
                if position >= readings[topic].end:
                    self._finish(readings[topic], position)
                    self._consumer.pause(topic)
                    behind.discard(topic)

    def _apply(self, reading: _Reading, records: list[ConsumerRecord]) -> None:
        writes: list[Write] = []
        epoch = reading.mark.epoch
        for record in records:
            if _epoch(record) >= epoch:
                epoch = _epoch(record)
                writes.append((record.key, record.value))
                reading.stale.discard(record.key)
            else:
                reading.stale.add(record.key)
        reading.records += len(records)
        reading.mark = Mark(records[-1].offset + 1, epoch, now_ms())
        self._store.write(reading.place, writes, reading.mark)

    def _finish(self, reading: _Reading, position: int) -> None:
        """Compaction leaves gaps: the position may be beyond the last record."""
        if position != reading.mark.position:
            reading.mark = reading.mark._replace(position=position)
            self._store.write(reading.place, [], reading.mark)

    async def _chunk(self, topic: TopicPartition) -> list[ConsumerRecord]:
        chunk = await self._consumer.getmany(topic, timeout_ms=_CHUNK_WAIT_MS, max_records=_CHUNK)
        records: list[ConsumerRecord] = chunk.get(topic, [])
        return records


def _epoch(record: ConsumerRecord) -> int:
    return next((int(value) for name, value in record.headers if name == EPOCH), 0)


def _seconds(started: float) -> float:
    return round(time.monotonic() - started, 3)
