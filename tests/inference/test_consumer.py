"""The consumer on the real broker: order of commits, room, rebalances, poison, and dying rather than losing."""

import asyncio
import re
from contextlib import AsyncExitStack
from functools import partial

import orjson
import pytest
from aiokafka import TopicPartition

from contracts.dead_letter import DeadLetter
from contracts.errors import EngineFailed, InvalidRequest
from contracts.outcomes import Outcome
from contracts.settings import Settings
from inference.claims import Place
from inference.engine import EngineDied, EngineOverloaded
from tests.inference.gate import GateEngine, Station, open_station
from tests.inference.harness import MODEL, Bench, open_bench
from tests.inference.jobs import chat
from tests.support.until import until

pytestmark = pytest.mark.broker


def keys(count: int, prefix: str = "k") -> list[str]:
    return [f"acme:{prefix}{number}" for number in range(count)]


async def put_all(bench: Bench, names: list[str], partition: int | None = 0, **more: str) -> None:
    for number, name in enumerate(names):
        await bench.put(name, partition=partition, claim=f"0.{number}", **more)  # type: ignore[arg-type]


async def test_records_finish_out_of_order_and_only_the_finished_prefix_is_committed(settings: Settings) -> None:
    engine = GateEngine()
    names = keys(5)
    async with open_bench(settings) as bench, open_station(settings, engine):
        await put_all(bench, names)
        await engine.until_started(5)
        await engine.release(*names[1:4])
        await bench.log.answered(names[1:4])
        await asyncio.sleep(3 * settings.worker_commit_interval_ms / 1000)
        assert await bench.committed() == {}
        await engine.release(names[0])
        await bench.until_committed(4)
        await engine.release(names[4])
        await bench.until_committed(5)
        assert [outcome.key for outcome in bench.log.completions][-2:] == [names[0], names[4]]


async def test_a_full_engine_takes_no_more_and_goes_on_when_there_is_room(settings: Settings) -> None:
    engine = GateEngine()
    names = keys(30)
    async with open_bench(settings) as bench, open_station(settings, engine, room=3):
        await put_all(bench, names, partition=None)
        await engine.until_started(3)
        await asyncio.sleep(0.3)
        assert len(engine.started) == 3
        await engine.release(engine.started[1])
        await engine.until_started(4)
        await engine.release()
        await bench.log.answered(names)
        await bench.until_committed(30)
        assert engine.most_running == 3


async def test_interactive_work_goes_before_batch_work(settings: Settings) -> None:
    engine = GateEngine()
    first, batch, interactive = keys(1, "first"), keys(3, "batch"), keys(3, "interactive")
    async with open_bench(settings) as bench, open_station(settings, engine, room=1) as station:
        await put_all(bench, first)
        await engine.until_started(1)
        await put_all(bench, batch, lane="batch")
        await put_all(bench, interactive)
        await until(partial(_has_waiting, station, 6))
        await engine.release()
        await bench.log.answered(first + batch + interactive)
        assert engine.started == first + interactive + batch


async def _has_waiting(station: Station, count: int) -> bool:
    return station.consumer.waiting == count


async def test_a_request_that_was_forwarded_twice_runs_once(settings: Settings) -> None:
    engine = GateEngine()
    async with open_bench(settings) as bench, open_station(settings, engine):
        await bench.put("acme:twice", partition=0, claim="1.7")
        await bench.put("acme:twice", partition=1, claim="1.7")
        await engine.until_started(1)
        await engine.release()
        await bench.until_committed(2)
        await bench.put("acme:twice", partition=2, claim="1.7")
        await bench.until_committed(3)
        assert engine.started == ["acme:twice"]
        await bench.put("acme:twice", partition=2, claim="1.9")  # claimed anew: another run
        await bench.log.completed(2)
        assert len(engine.started) == 2


async def test_poison_goes_to_dead_letters_and_its_neighbours_go_on(settings: Settings) -> None:
    engine = GateEngine()
    await engine.release()
    async with open_bench(settings) as bench, open_station(settings, engine):
        topic = bench.topics.work(MODEL, "interactive")
        await bench.put("acme:before", partition=0)
        await bench.producer.send_and_wait(topic, b"{}", key=b"acme:bare", partition=0)
        await bench.producer.send_and_wait(topic, b"\xff", key=b"acme:odd", partition=0, headers=[("lane", b"\xff")])
        await bench.producer.send_and_wait(topic, None, key=b"no tenant", partition=0)
        await bench.put("acme:broken", chat(), partition=0)
        await bench.put("acme:after", partition=0)
        await bench.log.answered(["acme:before", "acme:after"])
        await bench.until_committed(6)
        letters = {letter.key: letter for letter in bench.log.dead_letters}  # in whatever order Kafka took them
        assert len(bench.log.dead_letters) == 3
        assert {key: letter.value for key, letter in letters.items()} == {
            b"acme:bare": b"{}",
            b"acme:odd": b"\xff",
            b"no tenant": None,
        }
        read = DeadLetter.from_headers(
            [pair for pair in letters[b"acme:bare"].headers if pair[0].startswith("dead-letter")]
        )
        assert (read.dead_letter_topic, read.dead_letter_partition, read.dead_letter_offset) == (topic, 0, 1)
        assert read.dead_letter_stage == "worker"
        assert "operation" in read.dead_letter_reason


async def test_a_storm_of_poison_stops_the_worker(settings: Settings) -> None:
    settings = settings.model_copy(update={"poison_window": 10})
    engine = GateEngine()
    engine.failures = {name: InvalidRequest("top_k must be positive.") for name in keys(20)}
    await engine.release()
    async with open_bench(settings) as bench, open_station(settings, engine) as station:
        topic = bench.topics.work(MODEL, "interactive")
        await put_all(bench, keys(20))  # what callers get wrong is no poison
        await bench.log.completed(20)
        for number in range(5):
            await bench.producer.send_and_wait(topic, b"{}", key=b"acme:bad%d" % number, partition=0)
        await bench.log.until(lambda: len(bench.log.dead_letters) == 5)
        assert not station.died.is_set()
        await bench.producer.send_and_wait(topic, b"{}", key=b"acme:bad", partition=0)
        await asyncio.wait_for(station.died.wait(), 10)


async def test_failures_are_answered_with_what_may_be_said_of_them(settings: Settings) -> None:
    engine = GateEngine()
    engine.failures = {
        "acme:k0": InvalidRequest("top_k must be positive.", param="top_k"),
        "acme:k1": EngineFailed("The engine failed."),
        "acme:k2": RuntimeError("secret internals"),
        "acme:k3": EngineOverloaded("Too much to do.", retry_after=1.5),
    }
    await engine.release()
    async with open_bench(settings) as bench, open_station(settings, engine):
        await put_all(bench, keys(4))
        await bench.put("acme:late", partition=1, deadline=1)
        await bench.log.completed(5)
        await bench.until_committed(5)
        found = {outcome.key: outcome for outcome in bench.log.completions}
    told = {
        key: (one.completion.outcome, one.completion.status, one.body["error"]["message"]) for key, one in found.items()
    }
    assert told == {
        "acme:k0": (Outcome.REJECTED, 400, "top_k must be positive."),
        "acme:k1": (Outcome.FAILED, 500, "The engine failed."),
        "acme:k2": (Outcome.FAILED, 500, "The engine failed on this request."),
        "acme:k3": (Outcome.REJECTED, 503, "Too much to do."),
        "acme:late": (Outcome.EXPIRED, 504, "The request's deadline passed before it could start."),
    }
    assert found["acme:k0"].body["error"]["param"] == "top_k"
    assert found["acme:k3"].completion.retry_after_ms == 1500
    assert "acme:late" not in engine.started


async def test_a_completion_carries_the_work_records_headers_and_its_own(settings: Settings) -> None:
    engine = GateEngine()
    await engine.release()
    async with open_bench(settings) as bench, open_station(settings, engine):
        await bench.put("acme:one", user="ann", feature="search", claim="3.14")
        outcome = (await bench.log.completed(1))[0]
        headers = dict(outcome.record.headers)
        assert (headers["user"], headers["feature"], headers["claim"]) == (b"ann", b"search", b"3.14")
        completion = outcome.completion
        assert (completion.outcome, completion.status, completion.engine) == (Outcome.SUCCEEDED, 200, "synthetic")
        assert (completion.completion_tokens, completion.finish_reason) == (1, "stop")
        assert re.fullmatch(r"w\.\d+", completion.run)
        assert completion.started_at is not None
        assert completion.started_at <= (completion.first_token_at or 0) <= completion.finished_at
        assert outcome.body["id"] == "chatcmpl-one"
        partitions = await bench.producer.partitions_for(bench.topics.completions)
        assert len(partitions) == settings.request_partitions


async def test_work_in_flight_survives_a_rebalance_without_a_second_run_here(settings: Settings) -> None:
    settings = settings.model_copy(update={"worker_batch_share": 0.5})
    names = keys(16)
    first, second = GateEngine(), GateEngine()
    async with open_bench(settings) as bench, AsyncExitStack() as stack:
        await stack.enter_async_context(open_station(settings, first, worker="first"))
        for number, name in enumerate(names):
            await bench.put(name, partition=number % 4, lane="interactive" if number % 8 < 4 else "batch")
        await first.until_started(16)
        await stack.enter_async_context(open_station(settings, second, worker="second"))
        await second.until_started(8)  # those of the partitions that moved
        await second.release()
        await first.release()
        await bench.log.completed(24)
        await bench.until_committed(16)
        assert sorted(first.started) == sorted(names)
        assert len(set(second.started)) == len(second.started) == 8
        await bench.put("acme:next")
        await bench.log.answered(["acme:next"])
        assert len(bench.log.completions) == 25


async def test_partitions_that_come_back_bring_nothing_twice(settings: Settings) -> None:
    settings = settings.model_copy(update={"worker_batch_share": 0.5})
    names = keys(16)
    first, second = GateEngine(), GateEngine()
    async with open_bench(settings) as bench, open_station(settings, first, worker="first"):
        for number, name in enumerate(names):
            await bench.put(name, partition=number % 4, lane="interactive" if number % 8 < 4 else "batch")
        await first.until_started(16)
        async with open_station(settings, second, worker="second"):
            await second.until_started(8)
        await first.release()  # the second left without an answer; its partitions come back
        await bench.log.answered(names)
        await bench.until_committed(16)
        assert sorted(first.started) == sorted(names)
        assert len(bench.log.completions) == 16


async def test_streams_that_are_given_up_run_again_wherever_their_records_lie(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a freeze: the partition was somebody else's meanwhile, and its records, one of them forwarded twice,
    come back before that is known, while they still run."""
    engine = GateEngine()
    names = ["acme:twice", "acme:once"]
    async with open_bench(settings) as bench, open_station(settings, engine) as station:
        for name, claim in (("acme:twice", "1.7"), ("acme:twice", "1.7"), ("acme:once", "1.8")):
            await bench.put(name, chat(stream=True), partition=0, claim=claim)
        await engine.until_started(2)
        holding = station.consumer._holding
        delivered = asyncio.Semaphore(0)
        deliver, read_trails = holding.deliver, holding._read_trails

        def count(place: Place) -> bool:
            delivered.release()
            return deliver(place)

        async def late(partitions: list[TopicPartition]) -> None:
            for _ in range(3):
                await delivered.acquire()
            await read_trails(partitions)

        monkeypatch.setattr(holding, "deliver", count)
        monkeypatch.setattr(holding, "_read_trails", late)
        monkeypatch.setattr(holding, "lost", lambda _: True)
        station.consumer._consumer._coordinator.request_rejoin()
        await engine.until_started(4)
        await engine.release()
        await bench.log.answered(names)
        await bench.until_committed(3)
        assert sorted(engine.started) == sorted(2 * names)
        assert sorted(outcome.key for outcome in bench.log.completions) == sorted(names)


@pytest.mark.parametrize("cause", ["engine", "broker"])
async def test_what_cannot_be_published_is_not_committed_and_the_next_worker_does_it(
    settings: Settings, cause: str
) -> None:
    engine, again = GateEngine(), GateEngine()
    await again.release()
    async with open_bench(settings) as bench:
        async with open_station(settings, engine) as station:
            await put_all(bench, ["acme:answered", "acme:k0"])
            await engine.until_started(2)
            await engine.release("acme:answered")
            await bench.log.completed(1)
            await bench.until_committed(1)
            if cause == "engine":
                engine.failures["acme:k0"] = EngineDied("gone")
            else:
                await station.producer.stop()
            await engine.release()
            async with asyncio.timeout(60):
                await station.died.wait()
            await bench.until_committed(1)
        assert [outcome.key for outcome in bench.log.completions] == ["acme:answered"]
        async with open_station(settings, again):
            await bench.log.answered(["acme:k0"])
            await bench.until_committed(2)
    assert again.started == ["acme:k0"]
    assert [outcome.completion.outcome for outcome in bench.log.completions] == [Outcome.SUCCEEDED] * 2


async def test_stopping_drains_and_leaves_what_takes_too_long(settings: Settings) -> None:
    engine = GateEngine()
    async with open_bench(settings) as bench:
        async with open_station(settings, engine, drain=1.0):
            await put_all(bench, keys(3))
            await engine.until_started(3)
            asyncio.get_running_loop().call_later(
                0.2, lambda: asyncio.ensure_future(engine.release("acme:k0", "acme:k2"))
            )
        assert engine.running == set()
        assert (await bench.committed())[TopicPartition(bench.topics.work(MODEL, "interactive"), 0)] == 1
        again = GateEngine()
        await again.release()
        async with open_station(settings, again):
            await bench.log.answered(keys(3))
            await bench.until_committed(3)
    assert again.started == ["acme:k1"]  # the commit told that the third had finished before it
    assert orjson.dumps(bench.log.completions[0].body)
