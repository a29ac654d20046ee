"""The openai engine in front of vLLM's own OpenAI server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import httpx
import pytest

from contracts.catalogue import ModelSpec
from contracts.errors import InvalidRequest
from contracts.settings import Settings
from inference.answer import Answer
from inference.engines.openai import OpenAIEngine
from inference.engines.vllm import VllmEngine
from millrace.polling import until
from tests.inference.jobs import chat, collect, make_job
from tests.vllm.test_engine import answer, greedy


@pytest.fixture
async def upstream(server: str) -> AsyncIterator[OpenAIEngine]:
    engine = OpenAIEngine("small", ModelSpec(source="tiny"), Settings(openai_base_url=f"{server}/v1"))
    yield engine
    await engine.close()


async def ask(engine: OpenAIEngine, **body: object) -> Answer:
    whole = Answer()
    for step in await collect(engine, make_job(greedy("The mill by the river", **body))):  # type: ignore[arg-type]
        whole.add(step)
    return whole


async def test_over_http_and_in_process_the_same_model_says_the_same(
    upstream: OpenAIEngine, engine: VllmEngine
) -> None:
    over_http = await ask(upstream, stream=True)
    in_process = await answer(engine, greedy("The mill by the river"))
    assert over_http.text == in_process.text
    assert over_http.finish is not None
    assert in_process.finish is not None
    for field in ("reason", "prompt_tokens", "completion_tokens"):
        assert getattr(over_http.finish, field) == getattr(in_process.finish, field)


async def test_cached_prompt_tokens_are_counted(upstream: OpenAIEngine) -> None:
    body = greedy("Every sack is weighed once, written down once and paid for once. " * 20)
    await collect(upstream, make_job(body))
    finish = (await collect(upstream, make_job(body)))[-1].finish
    assert finish is not None
    assert finish.cached_tokens >= 128


async def test_its_refusals_reach_the_caller(upstream: OpenAIEngine) -> None:
    with pytest.raises(InvalidRequest, match="context length"):
        await collect(upstream, make_job(chat("long " * 4000)))


async def test_an_abort_reaches_its_scheduler(upstream: OpenAIEngine, server: str) -> None:
    async with aclosing(upstream.generate(make_job(greedy("Long", 1500, stream=True)))) as steps:
        await anext(steps)
        await until_running(server, 1)
    await until_running(server, 0)


async def until_running(server: str, count: int) -> None:
    """As its metrics say, which it renews now and then."""

    async def reached() -> bool:
        lines = (await client.get("/metrics")).text.splitlines()
        running = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("vllm:num_requests_running")]
        return sum(running) == count

    async with asyncio.timeout(10), httpx.AsyncClient(base_url=server) as client:
        await until(reached)
