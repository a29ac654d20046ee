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

LONG = 1500  # tokens: seconds, even here


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
    """Told by how many tokens it made: the gauge of what runs may be read too late, when all is over anyhow."""
    async with httpx.AsyncClient(base_url=server, timeout=60) as client:
        before = await metric(client, "vllm:generation_tokens_total")
        async with aclosing(upstream.generate(make_job(greedy("Long", LONG, stream=True)))) as steps:
            await anext(steps)

        async def over() -> bool:
            made = await metric(client, "vllm:generation_tokens_total") - before
            return made > 0 and await metric(client, "vllm:num_requests_running") == 0

        async with asyncio.timeout(60):
            await until(over)
        assert await metric(client, "vllm:generation_tokens_total") - before < LONG


async def metric(client: httpx.AsyncClient, name: str) -> float:
    lines = (await client.get("/metrics")).text.splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))
