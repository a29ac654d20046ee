"""The vllm adapter on the real vLLM: the same text in any company, aborts, priorities, prefix caching, refusals."""

import asyncio
from contextlib import aclosing
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY

from contracts.errors import InvalidRequest
from inference.answer import Answer
from inference.engine import CANCELLED, ContextLengthExceeded
from inference.engines.vllm import VllmEngine
from millrace.polling import until
from tests.inference.jobs import chat, collect, make_job
from tests.vllm.conftest import CONCURRENT
from tests.vllm.tiny_model import CONTEXT_TOKENS

BLOCK_TOKENS = 128


def greedy(text: str, max_tokens: int = 48, **more: Any) -> dict[str, Any]:
    return chat(text, temperature=0, max_tokens=max_tokens, ignore_eos=True, **more)


async def answer(engine: VllmEngine, body: dict[str, Any], priority: int = 0) -> Answer:
    whole = Answer()
    for step in await collect(engine, make_job(body, priority=priority)):
        whole.add(step)
    return whole


def gauge(name: str) -> float:
    """The largest over vLLM's label sets."""
    return max(sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == name)


async def test_greedy_text_is_the_same_alone_and_in_a_full_batch_streamed_and_not(engine: VllmEngine) -> None:
    prompts = [f"Sack number {number} goes to the mill" for number in range(CONCURRENT)]
    alone = [(await answer(engine, greedy(prompt))).text for prompt in prompts[:8]]
    together = await asyncio.gather(*(answer(engine, greedy(prompt, stream=True)) for prompt in prompts))
    assert [one.text for one in together[:8]] == alone
    assert len({one.text for one in together}) > CONCURRENT // 2
    assert all(one.tokens == 48 and one.finish and one.finish.completion_tokens == 48 for one in together)


async def test_streaming_gives_a_step_per_token_and_the_whole_comes_as_one(engine: VllmEngine) -> None:
    streamed = await collect(engine, make_job(greedy("The wheel", stream=True)))
    whole = await collect(engine, make_job(greedy("The wheel")))
    assert len(streamed) > 24
    assert len(whole) == 1
    assert "".join(step.text for step in streamed) == whole[0].text
    finish = whole[0].finish
    assert finish is not None
    assert finish.first_token_us is not None
    assert 0 < finish.first_token_us < 10_000_000


async def test_a_seed_repeats_the_sampling(engine: VllmEngine) -> None:
    body = chat("Roll the dice", temperature=1.5, seed=7, max_tokens=20)
    assert (await answer(engine, body)).text == (await answer(engine, body)).text


async def test_closing_the_iterator_aborts_and_frees_the_kv_cache(engine: VllmEngine) -> None:
    async def start_and_leave(number: int) -> None:
        job = make_job(greedy(f"Long {number}", 1500, stream=True))
        async with aclosing(engine.generate(job)) as steps:
            await anext(steps)

    await asyncio.gather(*(start_and_leave(number) for number in range(8)))
    waiting = [asyncio.create_task(answer(engine, greedy("Cancelled", 1500))) for _ in range(4)]
    await asyncio.sleep(0.3)
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await answer(engine, greedy("One more, which brings the gauges up to date"))
    async with asyncio.timeout(10):
        while gauge("vllm:num_requests_running") or gauge("vllm:kv_cache_usage_perc"):
            await asyncio.sleep(0.05)
            await answer(engine, greedy("Another", 2))


async def test_its_load_is_told_while_it_runs(engine: VllmEngine) -> None:
    async with aclosing(engine.generate(make_job(greedy("How full is it", 400, stream=True)))) as steps:
        loads = [engine.load() async for _ in steps]
    assert any(load and load.running == 1 and load.kv_usage for load in loads)


async def test_priority_decides_who_is_next(engine: VllmEngine) -> None:
    order: list[str] = []

    async def run(name: str, priority: int, tokens: int) -> None:
        async with aclosing(engine.generate(make_job(greedy(name, tokens, stream=True), priority=priority))) as steps:
            await anext(steps)
            order.append(name)
            async for _ in steps:
                pass

    full = [asyncio.create_task(run(f"full {n}", 0, 150)) for n in range(CONCURRENT)]
    await asyncio.sleep(0.2)
    later = [asyncio.create_task(run(f"later {n}", 5, 4)) for n in range(8)]
    await asyncio.sleep(0.1)
    urgent = asyncio.create_task(run("urgent", -5, 4))
    await asyncio.gather(*full, *later, urgent)
    assert order.index("urgent") < min(order.index(f"later {n}") for n in range(8))


async def test_repeated_prefixes_are_cached_in_whole_blocks(engine: VllmEngine) -> None:
    shared = "Every sack is weighed once, written down once and paid for once. " * 20
    first = (await answer(engine, greedy(f"{shared} First."))).finish
    second = (await answer(engine, greedy(f"{shared} Second."))).finish
    assert first is not None
    assert second is not None
    assert first.cached_tokens == 0
    assert second.cached_tokens > BLOCK_TOKENS
    assert second.cached_tokens % BLOCK_TOKENS == 0
    assert second.cached_tokens < second.prompt_tokens


async def test_the_prompt_goes_through_the_models_chat_template(engine: VllmEngine) -> None:
    parts = [{"type": "text", "text": "The mill "}, {"type": "text", "text": "stands"}]
    whole = await answer(engine, greedy("The mill stands"))
    in_parts = await answer(engine, greedy("") | {"messages": [{"role": "user", "content": parts}]})
    raw = {"model": "small", "prompt": "<|user|>The mill stands<|end|><|assistant|>", "temperature": 0}
    completed = await answer(engine, raw | {"max_tokens": 48, "ignore_eos": True})
    assert whole.text == in_parts.text == completed.text


async def test_stop_and_the_lengths_that_openai_promises(engine: VllmEngine) -> None:
    whole = (await answer(engine, greedy("The gate"))).text
    stop = whole[20:24]
    cut = await answer(engine, greedy("The gate", stop=[stop]))
    assert cut.text == whole[: whole.index(stop)]
    assert cut.finish is not None
    assert cut.finish.reason == "stop"
    default = await answer(engine, {"model": "small", "prompt": "The gate", "ignore_eos": True})
    assert default.tokens == 16


async def test_logprobs_of_a_chat_are_openais(engine: VllmEngine) -> None:
    whole = await answer(engine, greedy("The stones", 5, stream=True, logprobs=True, top_logprobs=2))
    assert whole.logprobs is not None
    content = whole.logprobs["content"]
    assert len(content) == 5
    assert [len(token["top_logprobs"]) for token in content] == [2] * 5
    assert all(
        token["logprob"] == token["top_logprobs"][0]["logprob"] <= 0 for token in content
    )  # greedy takes the best
    none = await answer(engine, greedy("The stones", 5, logprobs=True))
    assert none.logprobs is not None
    assert none.logprobs["content"][0]["top_logprobs"] == []


async def test_a_json_schema_binds_the_answer(engine: VllmEngine) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "gate", "schema": {"enum": ["open", "closed"]}}}
    whole = await answer(engine, chat("The gate?", temperature=0, max_tokens=60, response_format=wanted))
    assert orjson.loads(whole.text) in ("open", "closed")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"messages": [{"role": "user", "content": "long " * 4000}]}, ContextLengthExceeded, "holds 2048 tokens"),
        ({"max_tokens": CONTEXT_TOKENS}, ContextLengthExceeded, "lower max_tokens"),
        ({"top_k": -5}, InvalidRequest, "top_k"),
        ({"top_k": "many"}, InvalidRequest, "top_k"),
        ({"logit_bias": {"mill": 1}}, InvalidRequest, "mill"),
        ({"tools": [{"type": "function"}]}, InvalidRequest, "tool calls"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, InvalidRequest, "text only"),
        ({"response_format": {"type": "xml"}}, InvalidRequest, "response_format"),
        ({"logprobs": True, "top_logprobs": 500}, InvalidRequest, "logprobs"),
    ],
)
async def test_what_vllm_will_not_take_is_the_callers_error(
    engine: VllmEngine, fields: dict[str, Any], error: type[InvalidRequest], message: str
) -> None:
    with pytest.raises(error, match=message):
        await answer(engine, chat("The mill") | fields)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_cancelled_job_says_what_it_had_and_frees_its_memory(engine: VllmEngine, stream: bool) -> None:
    """To the token, also where nothing was told before the end."""
    job = make_job(greedy("The long way", 1500, stream=stream))
    made = counter("vllm:generation_tokens_total")
    task = asyncio.create_task(collect(engine, job))
    async with asyncio.timeout(60):
        await until(lambda: ready(counter("vllm:generation_tokens_total") >= made + 20))
        assert gauge("vllm:kv_cache_usage_perc") > 0
        assert engine.cancel(job)
        whole = Answer()
        for step in await task:
            whole.add(step)
        other = await answer(engine, greedy("Another", 40))  # steps renew the gauges
        await until(lambda: ready(gauge("vllm:num_requests_running") == 0))
    assert gauge("vllm:kv_cache_usage_perc") == 0
    finish = whole.finish
    assert finish is not None
    assert finish.reason == CANCELLED
    assert 20 <= finish.completion_tokens == whole.tokens < 1500
    assert finish.prompt_tokens > 0
    unbroken = (await answer(engine, greedy("The long way", finish.completion_tokens))).text
    assert unbroken.startswith(whole.text.rstrip("\ufffd"))
    assert other.tokens == 40


def counter(name: str) -> float:
    return sum(sample.value for metric in REGISTRY.collect() for sample in metric.samples if sample.name == name)


async def ready(true: bool) -> bool:
    return true
