"""Orders to end what runs: how engines obey, what is counted, and that no crash makes a worker forget them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from contracts.catalogue import ModelSpec, SyntheticTiming
from contracts.control import ControlType
from contracts.outcomes import Outcome as Result
from contracts.settings import Settings
from inference.answer import Answer
from inference.engine import CANCELLED, Prefix
from inference.engines.synthetic import SyntheticEngine
from inference.orders import Order, Orders
from tests.inference.harness import Bench, Outcome, open_bench, worker_process, write_routes
from tests.inference.jobs import chat, collect, make_job
from tests.inference.test_synthetic import answer as synthesised
from tests.inference.test_synthetic import running, text
from tests.support.leaping_clock import on_leaping_clock

SLOW = SyntheticTiming(step_us=2000, prefill_us_per_token=0, decode_us_per_sequence=0)
STEP_US = 20_000
TOKENS = 5000  # 100 s


async def produced(engine: SyntheticEngine, tokens: int) -> None:
    """Returns when the engine has made that many of its one job."""
    while not any(sequence.produced >= tokens for sequence in engine.batch._running):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


class TestSyntheticEngine:
    @pytest.mark.parametrize("stream", [True, False])
    @on_leaping_clock
    async def test_it_says_what_it_had_and_frees_its_memory(self, stream: bool) -> None:
        job = make_job(chat(max_tokens=200, stream=stream))
        async with running(ModelSpec(synthetic=SLOW)) as engine:
            task = asyncio.create_task(collect(engine, job))
            await produced(engine, 7)
            assert engine.cancel(job)
            assert engine.batch.kv_used == 0
            whole = Answer()
            for step in await task:
                whole.add(step)
            assert engine.batch.running == 0
        assert whole.finish is not None
        assert (whole.finish.reason, whole.finish.prompt_tokens) == (CANCELLED, job.prompt_estimate)
        assert 7 <= whole.tokens == whole.finish.completion_tokens == len(whole.text.split()) <= 8
        assert text(await synthesised(job.body)).startswith(whole.text)

    @on_leaping_clock
    async def test_what_waits_for_memory_has_produced_nothing(self) -> None:
        timing = SLOW.model_copy(update={"kv_tokens": 250})
        first, second = make_job(chat(max_tokens=200)), make_job(chat(max_tokens=190))
        async with running(ModelSpec(synthetic=timing)) as engine:
            before = asyncio.create_task(collect(engine, first))
            await produced(engine, 1)
            task = asyncio.create_task(collect(engine, second))
            while not engine.cancel(second):  # noqa: ASYNC110
                await asyncio.sleep(0)
            [step] = await task
            engine.cancel(first)
            await before
        assert step.finish is not None
        assert (step.tokens, step.finish.prompt_tokens, step.finish.completion_tokens) == (0, 0, 0)

    @on_leaping_clock
    async def test_a_prefix_counts_as_produced(self) -> None:
        job = replace(make_job(chat(max_tokens=200, stream=True)), prefix=Prefix("a b c ", 3))
        async with running(ModelSpec(synthetic=SLOW)) as engine:
            task = asyncio.create_task(collect(engine, job))
            await produced(engine, 2)
            engine.cancel(job)
            steps = await task
        finish = steps[-1].finish
        assert finish is not None
        assert finish.completion_tokens == 3 + sum(step.tokens for step in steps)

    @on_leaping_clock
    async def test_what_it_hasnt_it_cant_cancel(self) -> None:
        async with running(ModelSpec(synthetic=SLOW)) as engine:
            assert not engine.cancel(make_job(chat()))


class TestOrders:
    def test_an_abort_stands_whatever_comes_after_it(self) -> None:
        orders, ended = Orders(), list[str]()
        orders._take("0.1", ControlType.ABORT)
        orders._take("0.1", ControlType.DRAIN)
        with orders.of("0.1") as order, order.obeyed_by(lambda: ended.append("now")):
            assert (order.aborted, order.drained, ended) == (True, False, ["now"])

    def test_what_runs_is_ended_once(self) -> None:
        orders, ended = Orders(), list[str]()
        with orders.of("0.1") as order, order.obeyed_by(lambda: ended.append("now")):
            orders._take("0.1", ControlType.ABORT)
            orders._take("0.1", ControlType.ABORT)
        orders._take("0.1", ControlType.ABORT)
        assert ended == ["now"]

    def test_only_so_many_are_remembered(self) -> None:
        orders = Orders(remembered=2)
        for number in range(3):
            orders._take(f"0.{number}", ControlType.ABORT)
        aborted = []
        for number in range(3):
            with orders.of(f"0.{number}") as order:
                aborted.append(order.aborted)
        assert aborted == [False, True, True]

    def test_an_order_that_comes_late_ends_nothing(self) -> None:
        order = Order()
        with order.obeyed_by(pytest.fail):
            pass
        order.obey(ControlType.ABORT)
        assert order.aborted


def slow(settings: Settings, folder: Path) -> Settings:
    return settings.model_copy(update={"routes_file": write_routes(folder, step_us=STEP_US)})


def long(**fields: Any) -> dict[str, Any]:
    return chat(max_tokens=TOKENS, **fields)


async def outcome(bench: Bench, key: str) -> Outcome:
    await bench.log.answered([key], seconds=60)
    return next(one for one in bench.log.completions if one.key == key)


def said_by(chunk: bytes) -> str:
    return str(orjson.loads(chunk)["choices"][0]["delta"].get("content") or "")


def check_partial(ended: Outcome) -> None:
    """What the engine produced is what is answered and what is billed."""
    completion = ended.completion
    usage = ended.body["usage"]
    assert (completion.outcome, completion.status, completion.finish_reason) == (Result.CANCELLED, 200, CANCELLED)
    assert completion.completion_tokens == usage["completion_tokens"] == len(ended.text.split())
    assert completion.prompt_tokens == usage["prompt_tokens"]
    assert ended.body["choices"][0]["finish_reason"] == CANCELLED


@pytest.mark.broker
async def test_what_runs_ends_with_what_it_had_and_what_waits_never_runs(settings: Settings, tmp_path: Path) -> None:
    settings = slow(settings, tmp_path)
    worker = worker_process(settings, tmp_path, worker_max_in_flight="2")
    async with open_bench(settings) as bench:
        await worker.start()
        await bench.put("acme:streamed", long(stream=True), claim="0.1", partition=0)
        await bench.put("acme:whole", long(), claim="0.2", partition=0)
        await bench.put("acme:waiting", long(), claim="0.3", partition=0)
        await bench.put("acme:other", chat(max_tokens=2), claim="0.4", partition=0)
        await bench.log.until(lambda: len(bench.log.frames_of("acme:streamed")) >= 3)
        await bench.order("acme:waiting", "0.3")
        waiting = await outcome(bench, "acme:waiting")  # out of its turn
        assert len(bench.log.completions) == 1
        await bench.order("acme:nobody", "0.99")
        await bench.order("acme:streamed", "0.1")
        streamed = await outcome(bench, "acme:streamed")
        await outcome(bench, "acme:other")
        await bench.order("acme:whole", "0.2")
        whole = await outcome(bench, "acme:whole")
        await bench.until_committed(4)
        await worker.stop()
    for ended in (streamed, whole, waiting):
        check_partial(ended)
    assert 0 < whole.completion.completion_tokens < TOKENS
    assert (waiting.completion.completion_tokens, waiting.completion.prompt_tokens) == (0, 0)
    assert waiting.completion.first_token_at is None
    said = [frame for _, frame in bench.log.frames_of("acme:streamed")]
    assert 0 < said[-1].position <= len(streamed.text)
    assert said[-1].completion_tokens <= streamed.completion.completion_tokens < TOKENS
    assert len(bench.log.completions) == 4


@pytest.mark.broker
async def test_orders_outlive_the_worker_that_heard_them(settings: Settings, tmp_path: Path) -> None:
    """Given while no worker lives, to a worker that is killed before it comes to the work, and to one that runs it."""
    settings = slow(settings, tmp_path)
    first = worker_process(settings, tmp_path, "first", worker_max_in_flight="1")
    second = worker_process(settings, tmp_path, "second", worker_max_in_flight="1")
    async with open_bench(settings) as bench:
        await bench.put("acme:runs", long(stream=True), claim="0.1", partition=0)
        await bench.put("acme:early", long(), claim="0.2", partition=0)
        await bench.put("acme:late", long(), claim="0.3", partition=0)
        await bench.order("acme:early", "0.2")
        await first.start()
        await bench.log.until(lambda: len(bench.log.frames_of("acme:runs")) >= 3)
        first.kill()
        await first.wait()
        await bench.order("acme:runs", "0.1")
        await bench.order("acme:late", "0.3")
        await second.start()
        ended = [await outcome(bench, f"acme:{name}") for name in ("runs", "early", "late")]
        await bench.until_committed(3)
        await second.stop()
    for one in ended:
        check_partial(one)
    assert ended[1].completion.completion_tokens == ended[2].completion.completion_tokens == 0
    said = "".join(said_by(record.value) for record, _ in bench.log.frames_of("acme:runs") if record.value)
    assert ended[0].text.startswith(said)
    assert ended[0].completion.completion_tokens == len(said.split())


@pytest.mark.broker
async def test_nobody_listens_to_what_is_drained(settings: Settings, tmp_path: Path) -> None:
    settings = slow(settings, tmp_path)
    worker = worker_process(settings, tmp_path)
    async with open_bench(settings) as bench:
        await worker.start()
        await bench.put("acme:k", long(stream=True), claim="0.1")
        await bench.put("acme:other", long(), claim="0.2")
        await bench.log.until(lambda: len(bench.log.frames_of("acme:k")) >= 3)
        await bench.order("acme:k", "0.1", ControlType.DRAIN)
        await bench.order("acme:k", "0.2")  # on the same partition, so it is read later
        await outcome(bench, "acme:other")
        await bench.put("acme:short", chat(max_tokens=10), claim="0.3")  # time passes
        await outcome(bench, "acme:short")
        await bench.order("acme:k", "0.1")
        ended = await outcome(bench, "acme:k")
        await worker.stop()
    check_partial(ended)
    assert bench.log.frames_of("acme:k")[-1][1].completion_tokens <= ended.completion.completion_tokens - 8


@pytest.mark.broker
async def test_an_engine_that_hangs_is_left_with_what_it_had_said(settings: Settings, tmp_path: Path) -> None:
    settings = slow(settings, tmp_path)
    worker = worker_process(settings, tmp_path, synthetic_faults="true")
    async with open_bench(settings) as bench:
        await worker.start()
        await bench.put("acme:k", long(stream=True, metadata={"synthetic_fault": "hang"}), claim="0.1")
        await bench.log.until(lambda: len(bench.log.frames_of("acme:k")) >= 1)
        await bench.order("acme:k", "0.1")
        ended = await outcome(bench, "acme:k")
        await worker.stop()
    check_partial(ended)
    assert ended.completion.completion_tokens == 1
