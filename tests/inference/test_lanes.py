"""What a worker has read ahead: shared out fairly, by deadline within a tenant, and never run twice for that."""

import asyncio

import pytest

from contracts.clock import now_ms
from contracts.outcomes import Outcome
from contracts.settings import Settings
from tests.inference.gate import GateEngine, Station, open_station
from tests.inference.harness import Bench, open_bench
from tests.inference.jobs import ACCEPTED_AT
from tests.support.until import until

pytestmark = pytest.mark.broker


def keys(count: int, name: str) -> list[str]:
    return [f"{name}:k{number}" for number in range(count)]


async def until_waiting(station: Station, count: int) -> None:
    async def enough() -> bool:
        return station.consumer.waiting >= count

    await until(enough)


async def put_all(bench: Bench, names: list[str]) -> None:
    for number, name in enumerate(names):
        await bench.put(name, partition=0, claim=f"0.{number}")


async def test_one_tenants_queue_does_not_delay_anothers_one(settings: Settings) -> None:
    engine = GateEngine()
    queue = keys(500, "big")
    async with open_bench(settings, frames=False) as bench, open_station(settings, engine, room=4) as station:
        await put_all(bench, [*queue, "small:one"])
        await until_waiting(station, 497)
        await engine.release(*queue[:6])
        await engine.until_started(10)
        assert "small:one" in engine.started
        await engine.release()
        await bench.log.answered([*queue, "small:one"], 60)
        await bench.until_committed(501)
    assert sorted(engine.started) == sorted([*queue, "small:one"])


async def test_a_tenant_that_has_nothing_in_the_engine_finds_a_place_in_a_full_one(settings: Settings) -> None:
    engine = GateEngine()
    async with open_bench(settings, frames=False) as bench, open_station(settings, engine, room=32) as station:
        await put_all(bench, keys(40, "big"))
        await until_waiting(station, 9)
        assert len(engine.started) == 31
        await put_all(bench, ["small:one", "small:two"])
        await engine.until_started(32)
        await until_waiting(station, 10)
        assert engine.started[-1] == "small:one"
        await engine.release()
        await bench.log.completed(42)


async def test_what_finished_before_others_of_its_partition_is_not_run_again(settings: Settings) -> None:
    first, second = GateEngine(), GateEngine()
    slow, quick = keys(3, "slow"), keys(20, "quick")
    async with open_bench(settings, frames=False) as bench:
        async with open_station(settings, first, room=8):
            await put_all(bench, [slow[0], *quick[:9], slow[1], *quick[9:], slow[2]])
            await first.release(*quick)
            await bench.log.answered(quick)
        async with open_station(settings, second):
            await second.release()
            await bench.log.answered([*slow, *quick])
            await bench.until_committed(23)
    assert sorted(second.started) == sorted(slow)


async def test_within_a_tenant_priority_then_deadline_then_admission_decide(settings: Settings) -> None:
    engine = GateEngine()
    soon, later = now_ms() + 600_000, now_ms() + 700_000
    async with open_bench(settings, frames=False) as bench, open_station(settings, engine, room=1) as station:
        await bench.put("acme:first", partition=0)
        await engine.until_started(1)
        none: dict[str, int] = {"turn": 9}
        for name, headers in (("none", none), ("later", {"deadline": later}), ("soon", {"deadline": soon})):
            await bench.put(f"acme:{name}", partition=0, claim=f"0.{name}", **headers)
        await bench.put("acme:urgent", partition=0, claim="0.urgent", priority=-1)
        await bench.put("acme:before", partition=1, claim="0.before", turn=8)
        await until_waiting(station, 5)
        await engine.release()
        await bench.log.completed(6)
    assert engine.started == [f"acme:{name}" for name in ("first", "urgent", "soon", "later", "before", "none")]


async def test_what_cannot_start_in_time_never_touches_the_engine(settings: Settings) -> None:
    settings = settings.model_copy(update={"interactive_deadline_seconds": 60})
    engine = GateEngine()
    async with open_bench(settings, frames=False) as bench, open_station(settings, engine, room=1) as station:
        alive = now_ms() + 600_000
        await bench.put("acme:runs", partition=0, deadline=alive)
        await engine.until_started(1)
        deadline = now_ms() + 200
        await bench.put("acme:late", partition=0, claim="0.1", deadline=deadline)
        await bench.put("acme:default", partition=0, claim="0.2")  # accepted long ago
        await bench.put("acme:batch", partition=0, claim="0.3", lane="batch")  # may wait for ever
        assert now_ms() - ACCEPTED_AT > 60_000
        await until_waiting(station, 3)
        await asyncio.sleep(max(deadline + 1 - now_ms(), 0) / 1000)
        await engine.release()
        outcomes = {one.key: one.completion for one in await bench.log.completed(4)}
    assert engine.started == ["acme:runs", "acme:batch"]
    assert outcomes["acme:late"].outcome is outcomes["acme:default"].outcome is Outcome.EXPIRED
    assert outcomes["acme:late"].prompt_tokens == outcomes["acme:late"].completion_tokens == 0
