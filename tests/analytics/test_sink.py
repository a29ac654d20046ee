"""The sink on the real broker: each event once, whatever is killed, delivered again, cut anew or unfit."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from analytics.health import Health
from analytics.ledger import Ledger
from analytics.sink import Sink, consumer_of
from contracts.errors import StackError
from contracts.headers import RawHeaders
from contracts.kafka import producer_options
from contracts.settings import Settings
from contracts.topics import Topics
from contracts.usage import UsageEvent
from millrace.ports import free_port
from tests.support.analytics import committed_lag, process_of
from tests.support.records import read
from tests.support.until import until
from tests.support.usage import as_values, as_waste, make_events

pytestmark = pytest.mark.broker


@pytest.fixture
def quick(settings: Settings) -> Settings:
    """Small blocks and little patience, so that there are many cuts."""
    return settings.model_copy(
        update={"analytics_port": free_port(), "sink_block_rows": 1500, "sink_max_wait_ms": 60, "tenant_partitions": 4}
    )


async def ask(settings: Settings, statement: str) -> str:
    async with httpx.AsyncClient() as http:
        answer = await http.post(f"http://127.0.0.1:{settings.analytics_port}/", content=statement, timeout=30)
        return answer.raise_for_status().text.strip()


@asynccontextmanager
async def producing(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(**producer_options(settings)) as producer:
        yield producer


async def send(producer: AIOKafkaProducer, topic: str, tenant: str, value: bytes | None) -> None:
    await producer.send(topic, value, key=tenant.encode())


async def test_each_event_once_through_kill_9_duplicates_and_new_cuts(quick: Settings, tmp_path: Path) -> None:
    events = make_events(20_000)
    events += [as_waste(event) for event in events[::200]]
    rng = random.Random(7)
    log = [*events, *rng.sample(events, 800)]
    topic = Topics.of(quick).usage
    service = process_of(quick, tmp_path)

    async def produce() -> None:
        async with producing(quick) as producer:
            for number, event in enumerate(log):
                await send(producer, topic, event.tenant, event.model_dump_json().encode())
                if number % 200 == 0:
                    await asyncio.sleep(0.03)

    async def kill_often() -> None:
        for _ in range(5):
            await service.start()
            await asyncio.sleep(rng.uniform(0.1, 1.2))
            service.kill()
            await service.wait()

    await asyncio.gather(produce(), kill_often())
    await service.start()
    try:
        await until(lambda: lag_is_zero(quick))
        counts = await ask(quick, "SELECT count(), uniqExact(event_id), sum(cost_nano), sum(prompt_tokens) FROM usage")
        cost, tokens = sum(event.cost_nano for event in events), sum(event.prompt_tokens for event in events)
        assert counts == f"{len(events)}\t{len(events)}\t{cost}\t{tokens}"
        found = await ask(quick, "SELECT event_id FROM usage ORDER BY event_id")
        assert found.splitlines() == sorted(event.event_id for event in events)
    finally:
        assert await service.stop()
    assert list((quick.clickhouse_path.parent / "clickhouse-incoming").iterdir()) == []


async def lag_is_zero(settings: Settings) -> bool:
    return await committed_lag(settings) == 0


async def test_what_does_not_fit_goes_to_the_dead_letters_with_its_reason(quick: Settings, tmp_path: Path) -> None:
    topics = Topics.of(quick)
    events = make_events(300)
    values: list[bytes | None] = [*as_values(events)]
    bad: dict[int, bytes | None] = {
        20: b"no JSON at all",
        50: b"{}",
        51: events[51].model_dump_json(exclude={"tenant"}).encode(),
        120: None,
        299: as_values(events)[299].replace(b'"status":', b'"status":"?'),
    }
    headers: RawHeaders = [("traceparent", b"00-1-2-01")]
    async with producing(quick) as producer:
        for number, value in enumerate(values):
            unfit = bad.get(number, value) if number in bad else value
            await producer.send(topics.usage, unfit, key=b"k%d" % number, headers=headers, partition=1)
    service = process_of(quick, tmp_path)
    await service.start()
    try:
        await until(lambda: lag_is_zero(quick))
        letters = await read(quick.kafka_bootstrap_servers, topics.dead_letters, len(bad))
        assert await ask(quick, "SELECT count() FROM usage") == str(len(events) - len(bad))
    finally:
        await service.stop()
    assert {letter.key: letter.value for letter in letters} == {b"k%d" % number: value for number, value in bad.items()}
    for letter in letters:
        found = dict(letter.headers)
        assert found["traceparent"] == b"00-1-2-01"
        assert found["dead-letter-stage"] == b"sink"
        assert (found["dead-letter-topic"], found["dead-letter-partition"]) == (topics.usage.encode(), b"1")
        assert letter.key == b"k" + found["dead-letter-offset"]
        assert found["dead-letter-reason"]
    reasons = {letter.key: dict(letter.headers)["dead-letter-reason"].decode() for letter in letters}
    assert "tenant" in reasons[b"k51"]


async def test_a_storm_of_what_does_not_fit_stops_the_sink_and_loses_nothing(quick: Settings, tmp_path: Path) -> None:
    quick = quick.model_copy(update={"poison_window": 40})
    topics, events = Topics.of(quick), make_events(30)
    storm = 35
    async with producing(quick) as producer:
        for number, value in enumerate([*as_values(events[:10]), *[b"no JSON"] * storm, *as_values(events[10:])]):
            await producer.send(topics.usage, value, key=b"k%d" % number, partition=1)
    service = process_of(quick, tmp_path)

    async def ended_or_through() -> bool:
        return service.pid is None or await lag_is_zero(quick)

    starts = 0
    while await committed_lag(quick) != 0:
        starts += 1
        with suppress(StackError):  # it may stop before it is ready
            await service.start()
            async with asyncio.timeout(120):  # a busy machine takes its time to start and to end it
                while not await ended_or_through():  # noqa: ASYNC110 - other processes set no event of ours
                    await asyncio.sleep(0.2)
        assert starts < 10, service.log.read_text()
    assert starts > 1  # it ended with its fortieth record
    assert await ask(quick, "SELECT count(), uniqExact(event_id) FROM usage") == "30\t30"
    await service.stop()
    letters = await read(quick.kafka_bootstrap_servers, topics.dead_letters, storm)
    assert {letter.key for letter in letters} == {b"k%d" % number for number in range(10, 10 + storm)}
    assert "couldn't be understood" in service.log.read_text()


async def test_a_lone_event_waits_for_no_others(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"analytics_port": free_port()})
    service = process_of(settings, tmp_path)
    await service.start()
    try:
        async with producing(settings) as producer:
            for event in make_events(3):
                await send(producer, Topics.of(settings).usage, event.tenant, event.model_dump_json().encode())
                await producer.flush()

                async def there(key: str = event.idempotency_key) -> bool:
                    query = f"SELECT count() FROM usage WHERE idempotency_key = '{key}'"
                    return await ask(settings, query) == "1"

                await until(there)
        async with httpx.AsyncClient() as http:
            assert (await http.get(f"http://127.0.0.1:{settings.analytics_port}/readyz")).status_code == 200
    finally:
        assert await service.stop()


async def test_a_second_service_on_the_folder_says_so_in_one_sentence(quick: Settings, tmp_path: Path) -> None:
    service = process_of(quick, tmp_path)
    await service.start()
    second = await asyncio.create_subprocess_exec(
        *service.spec.command, env=dict(service.spec.environment), stderr=asyncio.subprocess.PIPE
    )
    try:
        _, err = await asyncio.wait_for(second.communicate(), 60)
    finally:
        await service.stop()
    assert second.returncode == 1
    assert f"ClickHouse's folder {quick.clickhouse_path} is in use by another process" in err.decode()
    assert len(err.decode().strip().splitlines()) == 1


@dataclass
class FailingLedger:
    """As when a server goes away: before the block came in, or after it did and before it said so."""

    ledger: Ledger
    failures: int
    inserted_first: bool

    def insert(self, lines: Iterable[bytes], count: int) -> None:
        fails = self.failures > 0
        self.failures -= 1
        if self.inserted_first or not fails:
            self.ledger.insert(lines, count)
        if fails:
            raise OperationalError("Connection refused")


@pytest.fixture
def here(settings: Settings, embedded: Settings) -> Settings:
    """The session's Kafka and the engine of this process."""
    return settings.model_copy(
        update={
            "clickhouse_path": embedded.clickhouse_path,
            "clickhouse_database": embedded.clickhouse_database,
            "sink_block_rows": 700,
            "sink_max_wait_ms": 40,
        }
    )


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@asynccontextmanager
async def sinking(
    settings: Settings, ledger: Ledger, executor: ThreadPoolExecutor, health: Health
) -> AsyncIterator[asyncio.Task[None]]:
    stop = asyncio.Event()
    async with consumer_of(settings) as consumer, producing(settings) as producer:
        task = asyncio.create_task(Sink(settings, ledger, executor, health).run(consumer, producer, stop))
        try:
            yield task
        finally:
            stop.set()
            await task


async def put(settings: Settings, events: list[UsageEvent]) -> None:
    async with producing(settings) as producer:
        for event in events:
            await send(producer, Topics.of(settings).usage, event.tenant, event.model_dump_json().encode())


def stored(ledger: Ledger) -> tuple[int, int]:
    count, unique = ledger.client.query("SELECT count(), uniqExact(event_id) FROM usage").result_rows[0]
    return count, unique


@pytest.mark.parametrize("inserted_first", [False, True])
async def test_while_clickhouse_fails_nothing_is_committed_and_then_all_goes_in(
    here: Settings, executor: ThreadPoolExecutor, health: Health, inserted_first: bool
) -> None:
    events = make_events(1000)
    await put(here, events)
    ledger = await asyncio.to_thread(Ledger.open, here)
    failing: Any = FailingLedger(ledger, 2, inserted_first)
    health.is_well()

    async def ails() -> bool:
        return not health.ready

    async with sinking(here, failing, executor, health):
        await until(ails)
        assert await committed_lag(here) == len(events)
        await until(lambda: lag_is_zero(here))
        assert health.ready
        assert (health.stored, health.lag) == (len(events), 0)
    assert stored(ledger) == (1000, 1000)
    ledger.close()


class UnreadableLedger:
    """As after a merge that ran into a full disk: the marks of a part are missing, or its data."""

    def __init__(self, code: int) -> None:
        self._code = code

    def insert(self, *_: object) -> None:
        raise DatabaseError(f"Code: {self._code}. DB::Exception: …", code=self._code)


@pytest.mark.parametrize("code", [33, 246])
async def test_a_ledger_that_cannot_be_read_is_opened_anew(
    here: Settings, executor: ThreadPoolExecutor, health: Health, code: int
) -> None:
    await put(here, make_events(10))
    unreadable: Any = UnreadableLedger(code)
    async with consumer_of(here) as consumer, producing(here) as producer, asyncio.timeout(60):
        sink = Sink(here, unreadable, executor, health)
        with pytest.raises(StackError, match=r"^A part of the ledger can't be read"):
            await sink.run(consumer, producer, asyncio.Event())
    assert await committed_lag(here) == 10


async def test_two_sinks_that_come_and_go_share_the_work(
    here: Settings, executor: ThreadPoolExecutor, health: Health
) -> None:
    events = make_events(6000)
    first, second = [await asyncio.to_thread(Ledger.open, here) for _ in range(2)]
    async with sinking(here, first, executor, health):
        feeding = asyncio.create_task(put(here, events))
        for _ in range(2):
            async with sinking(here, second, executor, health):
                await asyncio.sleep(1.0)
        await feeding
        await until(lambda: lag_is_zero(here))
    assert stored(first) == (6000, 6000)
    first.close()
    second.close()


@dataclass
class CountingLedger:
    ledger: Ledger
    blocks: list[int]

    def insert(self, lines: Iterable[bytes], count: int) -> None:
        self.ledger.insert(lines, count)
        self.blocks.append(count)

    def check(self) -> None:
        self.ledger.check()


async def test_a_block_is_large_when_much_waits_and_small_when_little_comes(
    here: Settings, executor: ThreadPoolExecutor, health: Health
) -> None:
    patient = here.model_copy(update={"sink_max_wait_ms": 2000})  # time to fill a block on a busy machine
    events = make_events(2102)
    await put(patient, events[:2100])
    ledger = await asyncio.to_thread(Ledger.open, patient)
    counting: Any = CountingLedger(ledger, [])
    async with sinking(patient, counting, executor, health):
        await until(lambda: lag_is_zero(patient))
        assert max(counting.blocks) == patient.sink_block_rows
        assert len(counting.blocks) < 10
        full = len(counting.blocks)
        for event in events[2100:]:
            await put(patient, [event])
            await until(lambda: lag_is_zero(patient))
    assert counting.blocks[full:] == [1, 1]
    assert stored(ledger) == (2102, 2102)
    ledger.close()
