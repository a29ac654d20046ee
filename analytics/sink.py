"""The sink: usage events from Kafka into the ledger, each exactly once, through crashes of anything.

1. gather a block  2. insert what the ledger doesn't have  3. dead letters for what doesn't fit  4. commit to Kafka
A crash anywhere delivers the block again, cut differently perhaps, and step 2 recognises what is there. In a storm of
events that don't fit, 3 and 4 end with the one that makes it too many, and so does the process.
"""

import asyncio
import time
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import orjson
import structlog
from aiokafka import (
    AIOKafkaConsumer,
    AIOKafkaProducer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    TopicPartition,
)
from aiokafka.errors import IllegalStateError, KafkaError

from analytics import metrics
from analytics.block import next_offsets
from analytics.clickhouse import ClickHouseError
from analytics.health import Health
from analytics.intake import Refused, take_in
from analytics.ledger import Ledger
from analytics.spans import SinkSpans
from contracts.dead_letter import DeadLetter
from contracts.errors import StackError
from contracts.kafka import client_options
from contracts.logs import concerning
from contracts.pause import pause
from contracts.poison_limit import PoisonLimit
from contracts.settings import Settings
from contracts.topics import Topics

_log = structlog.get_logger()
_FIRST_DELAY, _LONGEST_DELAY = 0.5, 30.0  # seconds between tries
_FETCH_BYTES = 1 << 20  # the broker answers at once with this much, else after half of sink_max_wait_ms
_PARTITION_BYTES, _FETCH_MOST = (
    1 << 20,
    8 << 20,
)  # more at once is new memory each time, which costs as much as decoding it
_SESSION_MS, _HEARTBEAT_MS = 6_000, 1_000  # after a kill -9 its partitions wait this long for the next sink
# https://github.com/ClickHouse/ClickHouse/blob/master/src/Common/ErrorCodes.cpp
# A file that ends too early, a part's checksum, a file that is missing or too short, corrupted data, or compressed.
_UNREADABLE = frozenset({32, 33, 40, 226, 227, 246, 271})
_LOOK_SECONDS = 10.0  # soon, see soundness.py
_STAY_MS = 24 * 3_600_000  # a group member for as long as ClickHouse may be down


class Sink(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """One per process. `run` returns when told to stop; what it had gathered and not stored comes again. It raises
    StackError when only a new start can help."""

    def __init__(self, settings: Settings, ledger: Ledger, executor: ThreadPoolExecutor, health: Health) -> None:
        self._settings = settings
        self._topics = Topics.of(settings)
        self._spans = SinkSpans.of(self._topics)
        self._ledger = ledger
        self._executor = executor
        self._health = health
        self._looked_at = time.monotonic()  # seconds
        self._epoch = 0  # goes up with every assignment of partitions
        self._owned = False  # whether that assignment still holds
        self._storing = asyncio.Lock()
        self._poison = PoisonLimit.of(settings)
        metrics.watch(settings, health, self._poison)
        self._storm = False
        self._consumer: AIOKafkaConsumer
        self._producer: AIOKafkaProducer

    async def run(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer, stop: asyncio.Event) -> None:
        """Both clients are started, and not subscribed yet."""
        self._consumer, self._producer = consumer, producer
        consumer.subscribe([self._topics.usage], listener=self)
        epoch = self._epoch
        while not stop.is_set():
            records = await self._gather(stop)
            if records:
                await self._store_until_done(records, epoch, stop)
            else:
                await self._look()
            if not self._current(epoch):
                epoch = await self._rewind()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002
        """The next owner may begin only when nothing of ours is on its way into the ledger any more."""
        self._owned = False
        async with self._storing:
            pass

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._epoch, self._owned = self._epoch + 1, True
        _log.info("partitions assigned", partitions=sorted(tp.partition for tp in assigned))

    def _current(self, epoch: int) -> bool:
        return self._owned and epoch == self._epoch

    async def _gather(self, stop: asyncio.Event) -> list[ConsumerRecord]:
        """Up to a full block, or what came in half of sink_max_wait_ms since the first; the broker takes the rest."""
        most, wait = self._settings.sink_block_rows, self._settings.sink_max_wait_ms / 2000
        records: list[ConsumerRecord] = []
        deadline = time.monotonic() + wait
        while len(records) < most and not stop.is_set() and (left := deadline - time.monotonic()) > 0:
            batches = await self._consumer.getmany(timeout_ms=int(left * 1000), max_records=most - len(records))
            if batches and not records:
                deadline = time.monotonic() + wait
            for batch in batches.values():
                records += batch
        return records

    async def _store_until_done(self, records: list[ConsumerRecord], epoch: int, stop: asyncio.Event) -> None:
        delay = _FIRST_DELAY
        self._health.waits_for(len(records), min(record.timestamp for record in records))
        while self._current(epoch):
            try:
                await self._store(records, epoch)
            except (ClickHouseError, KafkaError, OSError) as error:
                self._check_readable(error)
                metrics.failures.inc()
                _log.warning("storing failed, trying again", events=len(records), retry_s=delay, error=str(error))
                self._health.ails(f"storing fails: {type(error).__name__}")
                if stop.is_set():
                    return
                await pause(delay, stop)
                delay = min(2 * delay, _LONGEST_DELAY)
            else:
                self._health.is_well()
                break
        self._health.waits_for(0, None)

    async def _look(self) -> None:
        """Merges go on when no events come."""
        if time.monotonic() - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._ledger.check)
        except ClickHouseError as error:
            self._check_readable(error)
            _log.warning("the ledger's new parts could not be looked at", error=str(error))

    def _check_readable(self, error: Exception) -> None:
        """A disk that fills up during a merge can leave a part that ClickHouse can't read. Opened anew, the embedded
        engine puts it aside and goes back to the parts that it came from. Raises StackError for that."""
        if not self._settings.clickhouse_url and getattr(error, "code", None) in _UNREADABLE:
            raise StackError(
                "A part of the ledger can't be read, as after a full disk. The next start puts it aside and takes the "
                "parts that it came from; check with `millrace reconcile` that nothing is missing."
            ) from error

    async def _store(self, records: list[ConsumerRecord], epoch: int) -> None:
        async with self._storing:
            if not self._current(epoch):
                return
            block = self._spans.begin() if self._spans else None
            loop = asyncio.get_running_loop()
            with metrics.stores.time():
                refused = await loop.run_in_executor(self._executor, take_in, self._ledger, records)
        if self._spans and block:
            self._spans.stored(block, records)
        done = self._until_storm(records, refused)
        offsets = next_offsets(done)
        aside = [item for item in refused if item.record.offset < offsets.get(_place(item.record), 0)]
        await asyncio.gather(*[await self._dead_letter(item) for item in aside])
        metrics.dead_letters["sink"].inc(len(aside))
        _log.debug("block stored", events=len(done), refused=len(refused))
        self._tell(done, offsets)
        await self._commit(done, offsets)
        if self._storm:
            raise StackError(f"The sink stops. {self._poison.sentence}")

    def _until_storm(self, records: list[ConsumerRecord], refused: list[Refused]) -> list[ConsumerRecord]:
        """All, or those up to the one that is too many: what fits among the rest is recognised when it comes again."""
        if not refused:
            self._poison.good(len(records))
            return records
        unfit = {(_place(item.record), item.record.offset) for item in refused}
        for count, record in enumerate(records, 1):
            if self._poison.count(poison=(_place(record), record.offset) in unfit):
                self._storm = True
                return records[:count]
        return records

    def _tell(self, records: list[ConsumerRecord], offsets: dict[TopicPartition, int]) -> None:
        """How far behind the log the ledger is, as far as the last fetch knew."""
        ends = {tp: self._consumer.highwater(tp) or 0 for tp in self._consumer.assignment()}
        known = {tp: end - stored for tp, stored in offsets.items() if (end := ends.get(tp))}
        behind = int(time.time() * 1000) - max(record.timestamp for record in records)
        metrics.blocks.observe(len(records))
        metrics.stored.inc(len(records))
        self._health.has_stored(len(records), lag=max(0, sum(known.values())), behind_ms=max(0, behind))

    async def _dead_letter(self, refused: Refused) -> asyncio.Future[object]:
        record = refused.record
        reason = DeadLetter(
            dead_letter_reason=refused.reason[:1000],
            dead_letter_stage="sink",
            dead_letter_topic=record.topic,
            dead_letter_partition=record.partition,
            dead_letter_offset=record.offset,
        )
        with concerning(_request_key(record), record.headers):
            _log.warning("event refused", partition=record.partition, offset=record.offset, reason=refused.reason)
        headers = [*record.headers, *reason.to_headers()]
        delivery: asyncio.Future[object] = await self._producer.send(
            self._topics.dead_letters, record.value, key=record.key, headers=headers
        )
        return delivery

    async def _commit(self, records: list[ConsumerRecord], offsets: dict[TopicPartition, int]) -> None:
        """A commit that fails costs nothing but work: the events come again and are recognised."""
        try:
            await self._consumer.commit(offsets)
        except (KafkaError, IllegalStateError) as error:
            _log.info("commit failed; these events will come again", events=len(records), error=str(error))

    async def _rewind(self) -> int:
        """After partitions came or went: what was gathered is dropped, and read again from where it was committed.
        Returns the epoch that this holds for."""
        epoch = self._epoch
        try:
            for tp in self._consumer.assignment():
                if (committed := await self._consumer.committed(tp)) is None:
                    await self._consumer.seek_to_beginning(tp)
                else:
                    self._consumer.seek(tp, committed)
        except (KafkaError, IllegalStateError) as error:
            _log.info("rewinding failed, trying again", error=str(error))
            return epoch - 1
        return epoch


def _request_key(record: ConsumerRecord) -> bytes | None:
    """As far as it can be read; the record's own key is the tenant."""
    try:
        event = orjson.loads(record.value or b"")
        return f"{event['tenant']}:{event['idempotency_key']}".encode()
    except (ValueError, TypeError, KeyError):
        key: bytes | None = record.key
        return key


def _place(record: ConsumerRecord) -> TopicPartition:
    return TopicPartition(record.topic, record.partition)


def consumer_of(settings: Settings) -> AIOKafkaConsumer:
    return AIOKafkaConsumer(
        group_id=Topics.of(settings).sink_group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_min_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=settings.sink_max_wait_ms // 2,
        fetch_max_bytes=_FETCH_MOST,
        max_partition_fetch_bytes=_PARTITION_BYTES,
        session_timeout_ms=_SESSION_MS,
        heartbeat_interval_ms=_HEARTBEAT_MS,
        max_poll_interval_ms=_STAY_MS,
        **client_options(settings),
    )
