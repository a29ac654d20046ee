"""Carries records from a Faust stream to a stage and its decisions back to Kafka: the shell that is no decision.

It takes what is there without waiting, so batches form by themselves under load and a lone record is never held back.
A batch is acknowledged when everything that came of it is in Kafka; when that fails, the process ends and the records
come again, since Faust would acknowledge them and go on.
"""

import asyncio
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

import structlog
from faust.types import Message, StreamT

from contracts.clock import now_ms
from contracts.logs import concerning, concerns
from contracts.poison_limit import PoisonLimit
from contracts.topics import Topics
from streams.errors import Fatal
from streams.faust_consumer import LoopConsumer
from streams.gate import Gate
from streams.metrics import StageMetrics
from streams.outbox import Entered, Outbox, entered
from streams.records import Output, Record
from streams.spans import BatchSpans, StageSpans
from streams.stage import Batch, Stage
from streams.stand_in import StandIn
from streams.store import Place
from streams.sweep import Durable
from streams.table import Flight, Partition
from streams.tables import Tables

_MOST_UNEXPECTED = 20  # in a row: then it isn't the records
_log = structlog.get_logger()


class Carrier:
    """One per stage; the stages of one table take turns by its lock, so its changelog has the order of decisions."""

    def __init__(
        self,
        stage: Stage,
        topics: Topics,
        tables: Tables,
        outbox: Outbox,
        gate: Gate,
        most: int,
        poison: PoisonLimit,
    ) -> None:
        self._stage = stage
        self._spans = StageSpans.of(stage.name, topics)
        self._topics = topics
        self._set_aside = topics.dead_letters
        self._stand_in = StandIn(topics, stage.name, stage.source)
        self._tables = tables
        self._lock = tables.lock(stage.table)
        self._outbox = outbox
        self._gate = gate
        self._most = most
        self._poison = poison
        self._metrics = StageMetrics(stage.name, poison)
        self._storm = False
        self._unexpected = 0

    async def run(self, stream: StreamT[Any]) -> None:
        """The Faust agent: returns when Faust stops. Raises Fatal when too much was put aside."""
        consumer: LoopConsumer = stream.app.consumer
        queue = consumer.queues[self._stage.source] = stream.channel.queue
        while True:
            try:
                messages = [await queue.get()]
            except StopAsyncIteration:
                return
            while len(messages) < self._most and not queue.empty():
                messages.append(queue.get_nowait())
            await asyncio.shield(self._carry(messages, consumer))
            if self._storm:
                await consumer.commit()  # so that each start gets further
                raise Fatal(f"{self._stage.name}: {self._poison.sentence}")

    async def _carry(self, messages: list[Message], consumer: LoopConsumer) -> None:
        generation = self._tables.generation
        messages = [message for message in messages if message.generation_id == generation]
        if not self._gate.is_open or not messages:
            return  # the partitions are no longer ours: their next owner reads these again
        spans = self._spans.batch() if self._spans else None
        with self._gate.passing():
            async with self._lock:
                with concerning(None):
                    outputs, departing = self._decide(messages, consumer.durable_offset, spans)
                landing = [self._land(await self._enter(*leaving), *leaving) for leaving in departing]
            if self._stage.state_first:
                await asyncio.gather(*landing)
                await self._outbox.deliver(outputs)
            else:
                await asyncio.gather(self._outbox.deliver(outputs), *landing)
            await self._note(messages)
            if spans:
                spans.delivered()
            for message in messages:
                consumer.ack(message)

    async def _note(self, messages: Iterable[Message]) -> None:
        """How far the partitions have come; returns when what was read of them is kept."""
        for partition, group in self._by_partition(messages):
            await partition.read_landed()
            progress = partition.progress[self._stage.source]
            progress.acknowledged(group[-1].offset + 1, max(_timestamp(message) for message in group))

    def _by_partition(self, messages: Iterable[Message]) -> Iterator[tuple[Partition, list[Message]]]:
        for number, group in groupby(sorted(messages, key=_place), key=_partition):
            yield self._tables.partition(Place(self._stage.table, number)), list(group)

    def _decide(
        self, messages: Iterable[Message], durable: Durable, spans: BatchSpans | None
    ) -> tuple[list[Output], list[tuple[Partition, Flight]]]:
        outputs: list[Output] = []
        departing: list[tuple[Partition, Flight]] = []
        seen_at = now_ms()
        for partition, group in self._by_partition(messages):
            batch = self._stage.open(partition)
            decide = partial(self._one, batch)
            if spans:
                decide = partial(spans.decide, decide)
            for message in group:
                told = decide(_record(message, seen_at))
                if poison := any(one.topic == self._set_aside for one in told):
                    self._metrics.dead_letters.inc()
                self._storm |= self._poison.count(poison=poison)
                outputs += told
            batch.close()
            self._metrics.records.inc(len(group))
            if self._stage.sweep:
                self._stage.sweep.step(partition, len(group), durable)
            if flight := partition.depart():
                departing.append((partition, flight))
        return outputs, departing

    def _one(self, batch: Batch, record: Record) -> list[Output]:
        concerns(record.key, record.headers)
        _log.debug("decides", stage=self._stage.name, place=record.position)
        try:
            outputs = batch.decide(record)
        except Fatal:
            raise
        except Exception:
            self._unexpected += 1
            if self._unexpected > _MOST_UNEXPECTED:
                raise
            self._metrics.failures.inc()
            _log.exception("a record could not be decided", stage=self._stage.name, place=record.position)
            return self._stand_in.outputs(record)
        self._unexpected = 0
        return outputs

    async def _enter(self, partition: Partition, flight: Flight) -> list[Entered]:
        topic = self._topics.changelog(partition.place.table)
        return await self._outbox.enter_changelog(topic, partition.place.partition, flight.writes, partition.epoch)

    async def _land(self, batches: list[Entered], partition: Partition, flight: Flight) -> None:
        first, end = await entered(batches)
        await partition.land(flight, first, end, now_ms())


_partition = attrgetter("partition")
_place = attrgetter("partition", "offset")


def _timestamp(message: Message) -> int:
    timestamp: int = round(message.timestamp * 1000)
    return timestamp


def _record(message: Message, seen_at: int) -> Record:
    return Record(
        message.topic,
        message.partition,
        message.offset,
        _timestamp(message),
        message.key,
        message.value or b"",
        [*message.headers] if message.headers else [],
        seen_at,
    )
