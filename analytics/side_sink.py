"""What comes into ClickHouse beside the bills: feedback, engines' time, duplicates. What comes twice is one row.

1. take what is there  2. insert it, by table  3. dead letters for what doesn't fit  4. commit to Kafka
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import IllegalStateError, KafkaError

from analytics.clickhouse import ClickHouseError, Client
from analytics.metrics import dead_letters
from contracts.dead_letter import DeadLetter
from contracts.errors import InvalidRequest
from contracts.kafka import client_options
from contracts.pause import pause
from contracts.settings import Settings
from contracts.topics import Topics

_log = structlog.get_logger()
_POLL_MS = 500
_MOST = 10_000  # records at once
_RETRY_SECONDS = 2.0

Row = tuple[Any, ...]


class Side(NamedTuple):
    """One topic's way into its table, which collapses rows of the same record. `row` raises InvalidRequest."""

    table: str
    columns: tuple[str, ...]
    row: Callable[[ConsumerRecord], Row]


class SideSink:
    """`sides` by topic. `client` is used in the executor's one thread, and nowhere else at the same time."""

    def __init__(self, settings: Settings, sides: Mapping[str, Side], client: Client, executor: Executor) -> None:
        self._topics = Topics.of(settings)
        self._sides = sides
        self._client = client
        self._executor = executor
        self._options = client_options(settings)
        dead_letters.preset([side.table for side in sides.values()])

    async def run(self, producer: AIOKafkaProducer, stop: asyncio.Event) -> None:
        """Until told to stop. What can't be reached is waited for: this holds up no bill."""
        while not stop.is_set():
            consumer = AIOKafkaConsumer(
                *self._sides,
                group_id=self._topics.feedback_group,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                **self._options,
            )
            try:
                await consumer.start()
                while not stop.is_set():
                    await self._carry(consumer, producer)
            except (ClickHouseError, KafkaError, IllegalStateError, OSError) as error:
                _log.warning("side topics can't be stored, trying again", retry_s=_RETRY_SECONDS, error=str(error))
                await pause(_RETRY_SECONDS, stop)
            finally:
                await consumer.stop()

    async def _carry(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST)
        records = [record for batch in batches.values() for record in batch]
        if not records:
            return
        rows, letters = read_rows(self._sides, records)
        loop = asyncio.get_running_loop()
        for side, found in rows.items():
            await loop.run_in_executor(self._executor, self._insert, side, found)
        for record, reason in letters:
            headers = [*record.headers, *reason.to_headers()]
            await producer.send_and_wait(self._topics.dead_letters, record.value, key=record.key, headers=headers)
            dead_letters[reason.dead_letter_stage].inc()
        await consumer.commit()

    def _insert(self, side: Side, rows: list[Row]) -> None:
        self._client.insert(side.table, rows, column_names=side.columns)


def read_rows(
    sides: Mapping[str, Side], records: Sequence[ConsumerRecord]
) -> tuple[dict[Side, list[Row]], list[tuple[ConsumerRecord, DeadLetter]]]:
    """Rows, and what doesn't fit with its reason."""
    rows: defaultdict[Side, list[Row]] = defaultdict(list)
    letters: list[tuple[ConsumerRecord, DeadLetter]] = []
    for record in records:
        side = sides[record.topic]
        try:
            row = side.row(record)
        except InvalidRequest as error:
            letters.append((record, _letter(record, side.table, error.message)))
        else:
            rows[side].append(row)
    return rows, letters


def _letter(record: ConsumerRecord, stage: str, reason: str) -> DeadLetter:
    return DeadLetter(
        dead_letter_reason=reason[:1000],
        dead_letter_stage=stage,
        dead_letter_topic=record.topic,
        dead_letter_partition=record.partition,
        dead_letter_offset=record.offset,
    )
