"""Feedback from Kafka into ClickHouse: at least once, and what comes twice collapses into one row.

1. take what is there  2. insert it  3. dead letters for what doesn't fit  4. commit to Kafka
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import IllegalStateError, KafkaError

from analytics.clickhouse import ClickHouseError, Client
from analytics.sink import sleep
from contracts.dead_letter import DeadLetter
from contracts.errors import InvalidRequest
from contracts.feedback import Feedback
from contracts.kafka import client_options
from contracts.keys import RequestKey
from contracts.settings import Settings
from contracts.topics import Topics

_log = structlog.get_logger()
_COLUMNS = ("tenant", "idempotency_key", "score", "label", "given_at", "partition", "offset")
_POLL_MS = 500
_MOST = 10_000  # records at once
_RETRY_SECONDS = 2.0

Row = tuple[Any, ...]


class FeedbackSink:
    """`client` is used in the executor's one thread, and nowhere else at the same time."""

    def __init__(self, settings: Settings, client: Client, executor: Executor) -> None:
        self._topics = Topics.of(settings)
        self._client = client
        self._executor = executor
        self._options = client_options(settings)

    async def run(self, producer: AIOKafkaProducer, stop: asyncio.Event) -> None:
        """Until told to stop. What can't be reached is waited for: feedback holds up nothing else."""
        while not stop.is_set():
            consumer = AIOKafkaConsumer(
                self._topics.feedback,
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
                _log.warning("feedback can't be stored, trying again", retry_s=_RETRY_SECONDS, error=str(error))
                await sleep(_RETRY_SECONDS, stop)
            finally:
                await consumer.stop()

    async def _carry(self, consumer: AIOKafkaConsumer, producer: AIOKafkaProducer) -> None:
        batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_MOST)
        records = [record for batch in batches.values() for record in batch]
        if not records:
            return
        rows, letters = read_feedback(records)
        if rows:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, self._insert, rows)
        for record, reason in letters:
            headers = [*record.headers, *reason.to_headers()]
            await producer.send_and_wait(self._topics.dead_letters, record.value, key=record.key, headers=headers)
        await consumer.commit()

    def _insert(self, rows: list[Row]) -> None:
        self._client.insert("feedback", rows, column_names=_COLUMNS)


def read_feedback(records: Sequence[ConsumerRecord]) -> tuple[list[Row], list[tuple[ConsumerRecord, DeadLetter]]]:
    """Rows, and what doesn't fit with its reason."""
    rows: list[Row] = []
    letters: list[tuple[ConsumerRecord, DeadLetter]] = []
    for record in records:
        try:
            key, feedback = RequestKey.decode(record.key), Feedback.decode(record.value)
        except InvalidRequest as error:
            letters.append((record, _letter(record, error.message)))
            continue
        given_at = datetime.fromtimestamp(record.timestamp / 1000, UTC)
        rows.append((*key, feedback.score, feedback.label, given_at, record.partition, record.offset))
    return rows, letters


def _letter(record: ConsumerRecord, reason: str) -> DeadLetter:
    return DeadLetter(
        dead_letter_reason=reason[:1000],
        dead_letter_stage="feedback",
        dead_letter_topic=record.topic,
        dead_letter_partition=record.partition,
        dead_letter_offset=record.offset,
    )
