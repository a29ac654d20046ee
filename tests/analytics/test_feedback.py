"""Feedback on its way from Kafka to beside the request that it is about."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord

from analytics.feedback import FEEDBACK
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.side_sink import Row, SideSink, read_rows
from contracts.dead_letter import DeadLetter
from contracts.errors import InvalidRequest
from contracts.feedback import Feedback
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageEvent
from tests.support.records import read
from tests.support.until import until
from tests.support.usage import as_records, as_values, make_events

AT = 1_790_000_000_000


def record(key: bytes | None, value: bytes, offset: int = 0, at: int = AT) -> ConsumerRecord:
    return ConsumerRecord("feedback", 0, offset, at, 0, key, value, None, 0, 0, ())


def read_feedback(records: list[ConsumerRecord]) -> tuple[list[Row], list[tuple[ConsumerRecord, DeadLetter]]]:
    rows, letters = read_rows({"feedback": FEEDBACK}, records)
    return rows.get(FEEDBACK, []), letters


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "The body"),
        (b"[]", "The body"),
        (b'{"score": "0.5"}', "score"),
        (b'{"score": 1.5}', "score"),
        (b'{"score": 1, "comment": "x"}', "comment"),
        (b'{"score": 1, "label": "' + b"x" * 65 + b'"}', "label"),
    ],
)
def test_what_is_no_feedback_is_named(value: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        Feedback.decode(value)
    rows, [(_, letter)] = read_feedback([record(b"acme:k", value)])
    assert not rows
    assert said in letter.dead_letter_reason


def test_a_record_becomes_a_row_by_its_key() -> None:
    rows, letters = read_feedback([record(b"acme:a:b", b'{"score": 1}', 7), record(b"no tenant", b'{"score": 1}')])
    [(tenant, key, score, label, given_at, partition, offset)] = rows
    assert (tenant, key, score, label, partition, offset) == ("acme", "a:b", 1.0, "", 0, 7)
    assert given_at.timestamp() * 1000 == AT
    assert len(letters) == 1


def answered(count: int) -> list[UsageEvent]:
    return [event for event in make_events(count) if event.outcome is Outcome.SUCCEEDED]


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.mark.broker
async def test_the_latest_word_stands_beside_the_request_once(
    settings: Settings, ledger: Ledger, executor: ThreadPoolExecutor
) -> None:
    first, second, *_ = answered(10)
    loop, topics = asyncio.get_running_loop(), Topics.of(settings)
    await loop.run_in_executor(executor, take_in, ledger, as_records(as_values([first, second])))
    said = [(first, 1.0), (first, 0.25), (second, 1)]
    async with AIOKafkaProducer(bootstrap_servers=settings.kafka_bootstrap_servers) as producer:
        for event, score in said:
            key = f"{event.tenant}:{event.idempotency_key}".encode()
            value = Feedback(score=score).model_dump_json().encode()
            await producer.send_and_wait(topics.feedback, value, key=key)
        await producer.send_and_wait(topics.feedback, b'{"score": 1}', key=b"acme:nobody")
        await producer.send_and_wait(topics.feedback, b"{}", key=b"acme:k")
        for _ in range(2):  # what was not committed comes again
            stop = asyncio.Event()
            sides = SideSink(settings, {topics.feedback: FEEDBACK}, ledger.client, executor)
            sink = asyncio.create_task(sides.run(producer, stop))
            await until(lambda: _stored(ledger, executor, 4))
            stop.set()
            await sink
    query = "SELECT idempotency_key, score, model, given_at > event_time FROM judged ORDER BY score"
    found = await loop.run_in_executor(executor, lambda: ledger.client.query(query).result_rows)
    keys = [(event.idempotency_key, score, event.model, True) for event, score in ((first, 0.25), (second, 1.0))]
    assert [tuple(row) for row in found] == keys
    [letter] = await read(settings.kafka_bootstrap_servers, topics.dead_letters, 1)
    assert dict(letter.headers)["dead-letter-stage"] == b"feedback"


async def _stored(ledger: Ledger, executor: ThreadPoolExecutor, count: int) -> bool:
    query = "SELECT count() FROM feedback FINAL"
    loop = asyncio.get_running_loop()
    rows = await loop.run_in_executor(executor, lambda: ledger.client.query(query).result_rows)
    return bool(rows[0][0] == count)
