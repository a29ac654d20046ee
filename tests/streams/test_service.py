"""The whole service on a real Kafka: what callers, workers and operators see of it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from contracts.catalogue import load_catalogue
from contracts.dead_letter import DeadLetter
from contracts.envelope import RequestType
from contracts.errors import StackError
from contracts.frames import RequestState
from contracts.kafka import client_options
from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.topics import Topics, TopicSpec, all_topics
from millrace.dlq import Filter, find_letters
from millrace.redrive import redrive
from millrace.topic_admin import ensure_topics
from streams.partition import partition_of
from tests.streams.actors import body
from tests.streams.live import DEADLINE_SECONDS, Live, head, live, running, streams_process

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
async def shared(bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    """One streams process for many tests, and those around it."""
    folder = tmp_path_factory.mktemp("streams")
    prefix = f"t{uuid4().hex[:8]}-"
    settings = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix=prefix, streams_state_dir=folder / "state")
    mine = Topics.of(settings).responses + ".mine"
    await ensure_topics(settings, [*all_topics(settings, load_catalogue()), TopicSpec(mine, 2)])
    async with running(streams_process(settings, folder)), live(settings, mine) as played:
        yield played


@pytest.fixture
def around(shared: Live) -> Live:
    shared.works = True
    return shared


@pytest.fixture
def key() -> str:
    return f"acme:{uuid4().hex}"


async def test_a_request_is_run_answered_and_billed(around: Live, key: str) -> None:
    await around.ask(key, body(), headers=[("user", b"ann")])
    final = await around.told(key, kind="final")
    (value,) = await around.usage(key)
    event = orjson.loads(value)
    assert orjson.loads(final.value)["id"] == event["run"] == head(final, "run")
    assert (event["tenant"], event["user"], event["model"], event["route"]) == ("acme", "ann", "small", "named")
    assert event["cost_nano"] > 0
    assert event["accepted_at"] <= event["deduped_at"] <= event["admitted_at"] <= event["event_time"]


async def test_auto_is_routed_by_what_is_asked(around: Live, key: str) -> None:
    hard = "Prove this step by step, then compare: ```x = f()``` solve the equation $x^2 = 1$"
    await around.ask(key, body(model="auto"))
    await around.ask(f"{key}-hard", body(hard, model="auto"))
    assert head(await around.told(key, kind="final"), "model") == "small"
    assert head(await around.told(f"{key}-hard", kind="final"), "model") == "large"


async def test_duplicates_join_and_replay(around: Live, key: str) -> None:
    mine = around.topics.responses + ".mine"
    around.works = False
    await around.ask(key, body())
    await around.ask(key, body(), reply_to=mine)
    conflict = await around.ask(key, body("another"))
    assert head(await around.told(key, ce_id=conflict), "status") == "422"
    around.finish(await around.held(key))
    first, joined = await around.told(key, kind="final"), await around.told(key, kind="final", topic=mine)
    late = await around.ask(key, body())
    replay = await around.told(key, ce_id=late)
    assert first.value == joined.value == replay.value
    assert head(replay, "replayed") == "1"
    assert len(await around.usage(key)) == 1


async def test_asking_how_a_request_stands(around: Live, key: str) -> None:
    around.works = False
    await around.ask(key, body())
    work = await around.held(key)
    looking = await around.ask(key, kind=RequestType.LOOKUP)
    state = RequestState.model_validate_json((await around.told(key, ce_id=looking)).value)
    assert state.status == "in_progress"
    around.finish(work)
    await around.told(key, kind="final")
    looking = await around.ask(key, kind=RequestType.LOOKUP)
    state = RequestState.model_validate_json((await around.told(key, ce_id=looking)).value)
    assert (state.status, state.response is not None) == ("succeeded", True)
    unknown = await around.ask("acme:nobody", kind=RequestType.ATTACH)
    assert head(await around.told("acme:nobody", ce_id=unknown), "status") == "404"


async def test_what_cant_be_understood_is_set_aside_and_the_partition_goes_on(around: Live, key: str) -> None:
    requests = around.topics.requests
    partition = partition_of(key.encode(), 8)
    same = [bad for bad in (f"{key}-{n}" for n in range(99)) if partition_of(bad.encode(), 8) == partition][:2]
    bad = await around.ask(same[0], b"{")
    worse = await around.ask(same[1], b'{"model":"small","prompt":"x","deep":' + b"[" * 400 + b"]" * 400 + b"}")
    await around.producer.send_and_wait(requests, b"\xff", key=b"nobody", partition=partition, headers=[("x", None)])
    await around.producer.send_and_wait(requests, None, key=b"acme:gone", partition=partition)
    await around.ask(key, body())
    assert head(await around.told(key, kind="final"), "status") == "200"
    assert head(await around.told(same[0], ce_id=bad), "status") == "400"
    assert head(await around.told(same[1], ce_id=worse), "status") == "400"
    letters = await around.readers[around.topics.dead_letters].arrived(count=3)
    assert {b"{", b"\xff"} <= {letter.value for letter in letters}
    assert all(head(letter, "dead-letter-reason") for letter in letters)


async def test_a_record_on_the_wrong_partition_finds_home(around: Live, key: str) -> None:
    home = partition_of(key.encode(), 8)
    await around.ask(key, body(), partition=(home + 1) % 8)
    assert head(await around.told(key, kind="final"), "claim").startswith(f"{home}.")


@pytest.mark.parametrize("address", [".nowhere/3", ".nowhere", "/999", ".mine/7"])
async def test_a_reply_address_that_doesnt_exist_holds_nothing_up(around: Live, key: str, address: str) -> None:
    await around.ask(key, body(), reply_to=around.topics.responses + address)
    frame = await around.told(key, kind="final")
    assert frame.partition == partition_of(key.encode(), around.settings.response_partitions)


async def test_the_largest_body_goes_through(around: Live, key: str) -> None:
    largest = body("x" * (around.settings.max_body_bytes - 100))
    await around.ask(key, largest)
    await around.told(key, kind="final")
    again = await around.ask(key, largest[:-1])
    assert head(await around.told(key, ce_id=again), "status") == "400"


async def test_the_ends_of_transactions_are_passed_over(around: Live, key: str) -> None:
    """A producer with transactions leaves offsets without records; commits must go on beyond them."""
    options = client_options(around.settings)
    keys = [mine for mine in (f"{key}-{n}" for n in range(99)) if partition_of(mine.encode(), 8) == 0][:3]
    async with AIOKafkaProducer(**options, transactional_id=key) as producer:
        for mine in keys:
            async with producer.transaction():
                sent = await producer.send_and_wait(around.topics.requests, body(), key=mine.encode(), partition=0)
    for mine in keys:
        await around.told(mine, kind="final")
    first = TopicPartition(around.topics.requests, 0)
    group = AIOKafkaConsumer(**options, group_id=around.topics.streams_app, enable_auto_commit=False)
    async with group as consumer, asyncio.timeout(DEADLINE_SECONDS):
        consumer.assign([first])
        while (await consumer.committed(first) or 0) <= sent.offset:  # noqa: ASYNC110 - committed in another process
            await asyncio.sleep(0.1)


async def test_over_the_limit_is_429_and_true(settings: Settings, tmp_path: Path) -> None:
    limited = Settings(**(settings.model_dump(exclude_unset=True) | {"tokens_per_minute": 600}))
    async with running(streams_process(limited, tmp_path)), live(limited) as around:
        around.works = False
        await around.ask("acme:k1", body(max_tokens=500))
        await around.held("acme:k1")
        await around.ask("acme:k2", body(max_tokens=200))
        await around.ask("other:k1", body(max_tokens=500))
        refused = await around.told("acme:k2", kind="error")
        assert (head(refused, "status"), head(refused, "outcome")) == ("429", "rejected")
        assert 0 < int(head(refused, "retry-after-ms")) <= 20_000
        await around.ask("acme:k2", body(max_tokens=20))  # that answer isn't stored: the key is free for any body
        await around.held("acme:k2")
        await around.held("other:k1")
        await around.ask("acme:k3", body(max_tokens=9000))
        assert head(await around.told("acme:k3", kind="error"), "status") == "400"


async def test_a_restart_finds_its_tables_and_an_empty_disk_reads_them_again(
    settings: Settings, tmp_path: Path
) -> None:
    process = streams_process(settings, tmp_path)
    async with live(settings) as around:
        async with running(process):
            for number in range(20):
                await around.ask(f"acme:k{number}", body())
            for number in range(20):
                await around.told(f"acme:k{number}", kind="final")
        for fresh in (False, True):
            if fresh:
                shutil.rmtree(settings.streams_state_dir)
            async with running(process):
                for number in range(20):
                    again = await around.ask(f"acme:k{number}", body())
                    assert head(await around.told(f"acme:k{number}", ce_id=again), "replayed") == "1"
        assert len(around.readers[around.topics.admitted].records) == 20


async def test_a_backlog_larger_than_the_buffers_is_worked_off(settings: Settings, tmp_path: Path) -> None:
    small = Settings(**(settings.model_dump(exclude_unset=True) | {"streams_batch_size": 10}))
    async with live(small) as around:
        keys = [f"acme:k{number}" for number in range(600)]
        await asyncio.gather(*(around.ask(key, body()) for key in keys))
        async with running(streams_process(small, tmp_path)):
            for key in keys:
                await around.told(key, kind="final")
        assert len(around.readers[around.topics.admitted].records) == len(keys)


async def test_a_missing_topic_is_one_clear_sentence(bootstrap: str, tmp_path: Path) -> None:
    settings = Settings(
        kafka_bootstrap_servers=bootstrap, topic_prefix="nowhere-", streams_state_dir=tmp_path / "streams"
    )
    process = streams_process(settings, tmp_path)
    with pytest.raises(StackError, match="Kafka has no topic nowhere-admitted"):
        await process.start()
    assert "Traceback" not in process.log.read_text()


async def test_other_partition_counts_are_one_clear_sentence(settings: Settings, tmp_path: Path) -> None:
    other = Settings(**(settings.model_dump(exclude_unset=True) | {"request_partitions": 5}))
    with pytest.raises(StackError, match="has 8 partitions but the settings ask for 5"):
        await streams_process(other, tmp_path).start()


async def test_a_request_that_was_given_up_runs_once_more_when_it_is_redriven(around: Live, key: str) -> None:
    around.works = False
    await around.ask(key, body())
    work = await around.held(key)
    around.finish(work, Outcome.FAILED)
    await around.told(key, kind="error")
    for redriven in range(2):  # twice is once
        await set_aside(around, work)
        letters = await find_letters(around.settings, Filter(tenant="acme", stage="worker"))
        assert await redrive(around.settings, letters, lambda *_: None) == 1
        if not redriven:
            again = await around.held(key)
            around.finish(again)
            final = await around.told(key, kind="final")
    replay = await around.told(key, ce_id=head(work, "ce_id"))
    assert (head(replay, "replayed"), replay.value) == ("1", final.value)
    assert head(again, "claim") != head(work, "claim")
    events = [orjson.loads(value) for value in await around.usage(key)]
    assert sorted((event["outcome"], event["cost_nano"] > 0) for event in events) == [
        ("failed", False),
        ("succeeded", True),
    ]


async def set_aside(around: Live, work: ConsumerRecord) -> None:
    """As the worker does it with a request that it gives up."""
    letter = DeadLetter(
        dead_letter_reason="The request was tried 3 times; each time the engine died or hung.",
        dead_letter_stage="worker",
        dead_letter_topic=work.topic,
        dead_letter_partition=work.partition,
        dead_letter_offset=work.offset,
        dead_letter_attempts=3,
        dead_letter_outcome="failed",
    )
    headers = [*work.headers, *letter.to_headers()]
    await around.producer.send_and_wait(around.topics.dead_letters, work.value, key=work.key, headers=headers)
