"""The synthetic engine: its words, its scheduler, its clock, its faults."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.catalogue import ModelSpec, SyntheticTiming
from contracts.errors import EngineFailed
from contracts.settings import Settings
from inference.engine import ContextLengthExceeded, EngineOverloaded, Step
from inference.engines.prefix_cache import BLOCK_TOKENS, PrefixCache
from inference.engines.synthetic import SyntheticEngine
from inference.engines.synthetic_batch import Batch, Sequence
from inference.engines.synthetic_text import MARK, write_script
from tests.inference.jobs import INSTANT, chat, collect, instant_spec, make_job
from tests.support.leaping_clock import on_leaping_clock

TIMED = SyntheticTiming(step_us=2000, prefill_us_per_token=0, decode_us_per_sequence=0)


@asynccontextmanager
async def running(spec: ModelSpec, **settings: Any) -> AsyncIterator[SyntheticEngine]:
    engine = SyntheticEngine("small", spec, Settings(**settings))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def answer(body: dict[str, Any], timing: SyntheticTiming = INSTANT, **spec: Any) -> list[Step]:
    async with running(ModelSpec(synthetic=timing, **spec)) as engine, asyncio.timeout(60):
        return await collect(engine, make_job(body))


def text(steps: list[Step]) -> str:
    return "".join(step.text for step in steps)


@pytest.mark.parametrize("timing", [INSTANT, TIMED])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("limit", [None, 1, 2, 30])
async def test_tokens_are_words_and_every_way_of_asking_gives_the_same_ones(
    timing: SyntheticTiming, stream: bool, limit: int | None
) -> None:
    body = chat() | ({"max_tokens": limit} if limit else {})
    steps = await answer(body | {"stream": stream}, timing, default_output_tokens=20)
    whole, finish = text(steps), steps[-1].finish
    assert finish is not None
    assert all(step.finish is None for step in steps[:-1])
    assert whole.startswith(MARK)
    assert sum(step.tokens for step in steps) == finish.completion_tokens == len(whole.split())
    assert finish.reason == ("length" if limit else "stop")
    assert finish.completion_tokens == limit or (limit is None and 1 <= finish.completion_tokens <= 20)
    assert whole == text(await answer(body, default_output_tokens=20))


async def test_another_prompt_gives_another_answer() -> None:
    one, other = [text(await answer(chat(prompt, max_tokens=20))) for prompt in ("one", "other")]
    assert one != other


async def test_the_first_token_comes_alone_when_streamed() -> None:
    steps = await answer(chat(stream=True, max_tokens=9))
    assert [step.tokens for step in steps] == [1, 8]


@given(st.integers(1, 19), st.booleans())
def test_stop_ends_the_answer_before_the_stop_string(stop_at: int, alone: bool) -> None:
    whole = write_script(make_job(chat(max_tokens=20)), 100, b"seed")
    stop = whole.words[stop_at]
    stops = stop if alone else ["never said", stop]
    cut = write_script(make_job(chat(max_tokens=20, stop=stops)), 100, b"seed")
    assert cut.reason == "stop"
    assert stop not in cut.text(0, 20)
    assert whole.text(0, 20).startswith(cut.text(0, 20))


async def test_a_stop_string_at_the_very_start_leaves_an_empty_answer() -> None:
    for timing in (INSTANT, TIMED):
        steps = await answer(chat(max_tokens=5) | {"stop": MARK}, timing)
        assert (text(steps), [step.finish is not None for step in steps]) == ("", [True])


async def test_what_cannot_fit_is_the_callers_error() -> None:
    with pytest.raises(ContextLengthExceeded, match="holds 100 tokens"):
        await answer(chat("word " * 200), context_tokens=100)
    with pytest.raises(ContextLengthExceeded, match="asks for 90 more"):
        await answer(chat("word " * 20, max_tokens=90), context_tokens=100)
    with pytest.raises(ContextLengthExceeded, match="KV cache"):
        await answer(chat(max_tokens=50), INSTANT.model_copy(update={"kv_tokens": 20}))


async def test_a_repeated_prefix_is_counted_as_cached() -> None:
    shared = "The same instructions, again and again. " * 60
    async with running(instant_spec()) as engine:
        first = await collect(engine, make_job(chat(shared + "one")))
        second = await collect(engine, make_job(chat(shared + "two")))
        unlike = await collect(engine, make_job(chat("Not " + shared)))
    cached = [steps[-1].finish.cached_tokens for steps in (first, second, unlike) if steps[-1].finish]
    assert cached[0] == cached[2] == 0
    assert cached[1] == (len(shared) // 4) // BLOCK_TOKENS * BLOCK_TOKENS


def test_the_prefix_cache_forgets_the_least_recent_and_needs_the_whole_prefix() -> None:
    cache = PrefixCache(capacity_tokens=2 * BLOCK_TOKENS)
    one, two = b"a" * 512, b"b" * 512
    assert cache.match_and_insert(one + two + b".") == 0
    assert cache.match_and_insert(one + two + b".") == 2 * BLOCK_TOKENS
    assert cache.match_and_insert(two + b".") == 0  # the block is known, but not as a beginning
    assert cache.match_and_insert(one + two + b".") < 2 * BLOCK_TOKENS


def sequence(prompt: int = 10, output: int = 5, priority: int = 0) -> Sequence:
    return Sequence(prompt=prompt, output=output, kv=prompt + output, priority=priority, every_token=True)


def test_a_step_costs_what_it_computes() -> None:
    timing = SyntheticTiming(step_us=1000, prefill_us_per_token=2, decode_us_per_sequence=30, max_batch_tokens=100)
    batch = Batch(timing)
    batch.add(sequence(prompt=60))
    batch.add(sequence(prompt=70))
    costs = []
    for _ in range(3):
        step = batch.plan()
        costs.append(step.cost_us)
        batch.apply(step)
    # 60 + 40 of the second prompt; its other 30 beside one decode; two decodes
    assert costs == [1000 + 200, 1000 + 60 + 30, 1000 + 60]


def test_priority_goes_first_and_order_of_arrival_after() -> None:
    batch = Batch(SyntheticTiming(kv_tokens=15))
    sequences = [sequence(), sequence(), sequence(priority=-1)]
    for one in sequences:
        batch.add(one)
    order: list[Sequence] = []
    while batch.busy:
        step = batch.plan()
        order += [one for one, _ in step.prefills]
        batch.apply(step)
    assert order == [sequences[2], sequences[0], sequences[1]]


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(1, 30), st.integers(-1, 1)), min_size=1, max_size=30),
    st.data(),
)
def test_everyone_is_served_within_the_budgets(sizes: list[tuple[int, int, int]], data: st.DataObject) -> None:
    timing = SyntheticTiming(kv_tokens=400, max_batch_tokens=64)
    batch = Batch(timing)
    sequences = [sequence(*size) for size in sizes]
    aborted = data.draw(st.lists(st.sampled_from(sequences), max_size=5, unique_by=id))
    waiting = list(sequences)
    for _ in range(10_000):
        if waiting:
            batch.add(waiting.pop())
        elif not batch.busy:
            break
        step = batch.plan()
        assert batch.kv_used <= timing.kv_tokens
        assert sum(tokens for _, tokens in step.prefills) <= timing.max_batch_tokens
        if aborted and batch.running > 1:
            batch.remove(aborted.pop())
        batch.apply(step)
    assert batch.kv_used == 0
    assert all(one.closed for one in sequences)


@on_leaping_clock
async def test_a_batch_takes_no_longer_than_one() -> None:
    clock = asyncio.get_running_loop().time
    async with running(ModelSpec(synthetic=TIMED)) as engine:
        begun = clock()
        await asyncio.gather(*(collect(engine, make_job(chat(f"{n}", max_tokens=25))) for n in range(20)))
        assert clock() - begun == pytest.approx(25 * 0.002)


@on_leaping_clock
async def test_closing_the_iterator_frees_its_place() -> None:
    async with running(ModelSpec(synthetic=TIMED)) as engine:
        async with aclosing(engine.generate(make_job(chat(stream=True, max_tokens=1000)))) as steps:
            await anext(steps)
            assert engine.batch.running == 1
        assert (engine.batch.running, engine.batch.kv_used) == (0, 0)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(collect(engine, make_job(chat(max_tokens=1000))), 0.1)
        assert engine.batch.running == 0


@pytest.mark.parametrize("timing", [INSTANT, TIMED])
async def test_scripted_faults_only_where_they_are_allowed(timing: SyntheticTiming) -> None:
    body = chat(stream=True, max_tokens=5, metadata={"synthetic_fault": "error"})
    assert len(text(await answer(body, timing)).split()) == 5
    async with running(ModelSpec(synthetic=timing), synthetic_faults=True) as engine:
        seen: list[Step] = []
        with pytest.raises(EngineFailed):
            seen.extend([step async for step in engine.generate(make_job(body))])
        overload = chat(max_tokens=5, metadata={"synthetic_fault": "overload"})
        with pytest.raises(EngineOverloaded):
            await collect(engine, make_job(overload))
        another = chat(max_tokens=5, metadata={"synthetic_fault": "error", "synthetic_fault_of": "another"})
        assert len(text(await collect(engine, make_job(another))).split()) == 5
        hanging = chat(stream=True, max_tokens=5, metadata={"synthetic_fault": "hang"})
        async with aclosing(engine.generate(make_job(hanging))) as steps:
            assert (await anext(steps)).text == MARK
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(steps), 0.1)
