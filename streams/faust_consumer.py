"""Faust's Kafka consumer, on the service's own event loop and with the settings' own connection.

Faust's driver runs aiokafka in a second thread, knows TLS and SASL in its own way, and assigns partitions round-robin
when an app has no Faust tables. This one saves the two thread hops per fetch, connects as every other client does, and
always keeps the partitions of co-partitioned topics together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, OffsetAndMetadata, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import CommitFailedError, ConsumerStoppedError
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import Transport
from faust.types import TP, ConsumerMessage

from contracts.kafka import client_options
from contracts.settings import Settings

_FETCH_WAIT_MS = 500
_POLL_SECONDS = 0.5
_REST_SECONDS = 0.02
_MAX_POLL_RECORDS = 400
_MAX_POLL_INTERVAL_MS = 600_000
_log = structlog.get_logger()


class LoopConsumer(Consumer):  # type: ignore[misc]
    """What Faust asks of a consumer, straight from aiokafka."""

    consumer_stopped_errors = (ConsumerStoppedError,)
    queues: dict[str, Any]  # the agents' by topic
    settings: Settings
    before_revoked: Callable[[], Awaitable[None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queues = {}
        self._durable: dict[TP, int] = {}  # Faust's own notes take a failed commit for one

    async def on_start(self) -> None:
        self._kafka = _kafka_consumer(self.app, self.settings)
        await self._kafka.start()

    async def on_stop(self) -> None:
        await super().on_stop()  # commits
        await self._kafka.stop()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Faust forgets its acknowledgements here before it would commit them: what is under way ends first."""
        await self.before_revoked()
        await self.commit()
        await super().on_partitions_revoked(revoked)

    async def subscribe(self, topics: Iterable[str]) -> None:
        self._kafka.subscribe(topics=set(topics), listener=_Listener(self))

    async def _drain_messages(self, fetcher: Any) -> None:
        """All of a fetch at once into the agents' queues, so that they find it as one batch.

        Faust's own loop makes two tasks and three objects per record, and lets the agents run after each.
        """
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self._drain_once()
        except ConsumerStoppedError:
            if not self.app.should_stop:
                raise

    async def _drain_once(self) -> None:
        active = set(self._get_active_partitions())
        if not (active and self._flows):
            await asyncio.sleep(_REST_SECONDS)
            return
        fetcher = self._kafka._fetcher  # noqa: SLF001 - as Faust's driver does: getmany() knows no active partitions
        with fetcher._subscriptions.fetch_context():  # noqa: SLF001
            fetched = await fetcher.fetched_records(active, timeout=_POLL_SECONDS, max_records=_MAX_POLL_RECORDS)
        for tp, records in fetched.items():
            if self._flows:
                self._hand_over(TP(*tp), records)
            else:
                self._give_back(tp, records)

    def _give_back(self, tp: TopicPartition, records: list[Any]) -> None:
        """A rebalance is under way. Faust seeks before it ends, perhaps has sought already: what came since then must
        come again, or Faust would take it for a gap in the log and commit beyond it."""
        if tp in self._kafka.assignment():
            self._kafka.seek(tp, records[0].offset)

    @property
    def _flows(self) -> bool:
        return bool(self.flow_active and self.app.flow_control.is_active())

    def _hand_over(self, tp: TP, records: list[Any]) -> None:
        queue = self.queues[tp.topic]
        read = self._read_offset[tp]
        for record in records:
            if read and record.offset < read:
                continue
            if read and record.offset - read > 1:  # a transaction's marker: Faust would wait for it before it commits
                self._gap[tp].addi(read + 1, record.offset)
            read = self._read_offset[tp] = record.offset
            queue.put_nowait_enhanced(
                self._to_message(tp, record),
                on_pressure_high=self._on_pressure(self.on_buffer_full, tp),
                on_pressure_drop=self._on_pressure(self.on_buffer_drop, tp),
            )

    @lru_cache(maxsize=4096)  # noqa: B019 - the consumer lives as long as its process; the queue compares callbacks
    def _on_pressure(self, callback: Callable[[TP], None], tp: TP) -> Callable[[], None]:
        return partial(callback, tp)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's name
        raise NotImplementedError("records are read by _drain_messages")

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        return ConsumerMessage(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp / 1000,
            record.timestamp_type,
            record.headers,
            record.key,
            record.value,
            record.checksum,
            record.serialized_key_size,
            record.serialized_value_size,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        """False when a rebalance came first: the next owner reads the records again."""
        assigned = self.assignment()
        wanted = {
            TopicPartition(*tp): OffsetAndMetadata(offset, "") for tp, offset in offsets.items() if tp in assigned
        }
        try:
            await self._kafka.commit(wanted)
        except CommitFailedError:
            _log.warning("commit lost to a rebalance", partitions=len(wanted))
            return False
        self._durable.update({TP(*tp): committed.offset for tp, committed in wanted.items()})
        return True

    def durable_offset(self, topic: str, partition: int) -> int:
        """What Kafka has said it has as this group's offset; 0 when it has said nothing yet."""
        return self._durable.get(TP(topic, partition), 0)

    def _new_topicpartition(self, topic: str, partition: int) -> TP:
        return TP(topic, partition)

    def assignment(self) -> set[TP]:
        return {TP(*tp) for tp in self._kafka.assignment()}

    def highwater(self, tp: TP) -> int | None:
        highwater: int | None = self._kafka.highwater(TopicPartition(*tp))
        return highwater

    def progress(self, tp: TP) -> tuple[int | None, int | None]:
        """The next offset to read, and the end of the log; None where nothing is known yet."""
        state = self._kafka._subscription.subscription.assignment.state_value(TopicPartition(*tp))  # noqa: SLF001
        if state is None or not state.has_valid_position:
            return None, None
        return state.position, state.highwater

    def topic_partitions(self, topic: str) -> int | None:
        known = self._kafka.partitions_for_topic(topic)
        return len(known) if known else None

    async def seek_to_committed(self) -> Mapping[TP, int]:
        committed: Mapping[TP, int] = await self._kafka.seek_to_committed()
        return committed

    async def position(self, tp: TP) -> int | None:
        position: int | None = await self._kafka.position(TopicPartition(*tp))
        return position

    async def _seek(self, partition: TP, offset: int) -> None:
        self._kafka.seek(TopicPartition(*partition), offset)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            await self._seek(tp, offset)

    async def earliest_offsets(self, *partitions: TP) -> Mapping[TP, int]:
        offsets: Mapping[TP, int] = await self._kafka.beginning_offsets(partitions)
        return offsets

    async def highwaters(self, *partitions: TP) -> Mapping[TP, int]:
        offsets: Mapping[TP, int] = await self._kafka.end_offsets(partitions)
        return offsets

    def key_partition(self, topic: str, key: bytes | None, partition: int | None = None) -> int | None:
        raise NotImplementedError("records are sent by the outbox")

    async def create_topic(self, *_: Any, **__: Any) -> None:
        """Topics are made by the operator, before any service starts."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self, consumer: LoopConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        self._consumer.app.on_rebalance_start()
        await self._consumer.on_partitions_revoked({TP(*tp) for tp in revoked})

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        consumer = self._consumer
        generation = consumer._kafka._coordinator.generation  # noqa: SLF001 - as Faust's driver does
        consumer.app.consumer_generation_id = generation
        await consumer.on_partitions_assigned({TP(*tp) for tp in assigned}, generation)


def transport_for(settings: Settings, before_revoked: Callable[[], Awaitable[None]]) -> type[Transport]:
    """The transport that makes such consumers; `before_revoked` returns when nothing is under way any more."""
    consumer = type("Consumer", (LoopConsumer,), {"settings": settings, "before_revoked": staticmethod(before_revoked)})
    return type("Transport", (Transport,), {"Consumer": consumer})


def _kafka_consumer(app: Any, settings: Settings) -> AIOKafkaConsumer:
    conf = app.conf
    return AIOKafkaConsumer(
        **client_options(settings),
        client_id=conf.broker_client_id,
        group_id=conf.id,
        partition_assignment_strategy=[app.assignor],
        enable_auto_commit=False,
        auto_offset_reset=conf.consumer_auto_offset_reset,
        max_poll_records=_MAX_POLL_RECORDS,
        max_poll_interval_ms=_MAX_POLL_INTERVAL_MS,
        fetch_max_wait_ms=_FETCH_WAIT_MS,
        request_timeout_ms=int(conf.broker_request_timeout * 1000),
        session_timeout_ms=int(conf.broker_session_timeout * 1000),
        rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
        heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
        metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
    )
