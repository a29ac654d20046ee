"""The openai engine against a real HTTP server: what is forwarded, retried, passed on and hidden."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from contracts.catalogue import ModelSpec
from contracts.clock import now_ms
from contracts.errors import InvalidRequest, MillraceError, UpstreamFailed
from contracts.settings import Settings
from inference.answer import Answer
from inference.engine import EngineOverloaded
from inference.engines.openai import OpenAIEngine
from inference.engines.sse import sse_data
from tests.inference.jobs import chat, collect, make_job
from tests.inference.upstream import Upstream, delta, event, open_upstream, refuse, send, speak

SECRET = "sk-very-secret"


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with open_upstream() as upstream:
        yield upstream


@asynccontextmanager
async def engine(upstream: Upstream, **more: Any) -> AsyncIterator[OpenAIEngine]:
    settings = Settings(openai_base_url=upstream.url, openai_api_key=SECRET, **more)
    engine = OpenAIEngine("small", ModelSpec(source="upstream-1"), settings)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def answer(upstream: Upstream, body: dict[str, Any] | None = None, **more: Any) -> Answer:
    whole = Answer()
    async with engine(upstream, **more) as running, asyncio.timeout(60):
        for step in await collect(running, make_job(body or chat(stream=True))):
            whole.add(step)
    return whole


async def test_the_body_is_forwarded_with_what_the_worker_must_set(upstream: Upstream) -> None:
    body = chat(
        temperature=0.3,
        max_tokens=7,
        top_k=40,
        metadata={"feature": "x"},
        stream_options={"include_usage": False, "x": 1},
    )
    whole = await answer(upstream, body)
    assert whole.text == "water turns the wheel"
    assert upstream.bodies == [
        {
            "model": "upstream-1",
            "messages": body["messages"],
            "temperature": 0.3,
            "max_tokens": 7,
            "top_k": 40,
            "stream": True,
            "stream_options": {"include_usage": True, "x": 1},
        }
    ]
    assert upstream.headers[0]["authorization"] == f"Bearer {SECRET}"


async def test_usage_is_the_upstreams_own(upstream: Upstream) -> None:
    finish = (await answer(upstream)).finish
    assert finish is not None
    assert (finish.prompt_tokens, finish.cached_tokens, finish.completion_tokens) == (11, 4, 5)
    assert (finish.reason, finish.model_version) == ("stop", "")


async def test_without_usage_chunks_are_counted(upstream: Upstream) -> None:
    upstream.scripts = [speak("a", " b", usage=False)]
    finish = (await answer(upstream)).finish
    assert finish is not None
    assert finish.completion_tokens == 2
    assert finish.prompt_tokens == make_job(chat()).prompt_estimate


async def test_text_completions_too(upstream: Upstream) -> None:
    whole = await answer(upstream, {"model": "small", "prompt": "the mill"})
    assert whole.text == "water turns the wheel"
    assert upstream.bodies[0]["prompt"] == "the mill"


async def test_tool_calls_and_unknown_fields_pass_through(upstream: Upstream) -> None:
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "grind", "arguments": ""}}
    upstream.scripts = [
        send(
            delta(True, None, role="assistant", reasoning_content="hm"),
            delta(True, None, tool_calls=[call]),
            delta(True, None, tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
            event({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
        )
    ]
    whole = await answer(upstream)
    assert whole.extra["reasoning_content"] == "hm"
    assert whole.extra["tool_calls"][0]["function"] == {"name": "grind", "arguments": "{}"}
    assert whole.finish is not None
    assert whole.finish.reason == "tool_calls"


async def test_what_the_upstream_finds_wrong_is_the_callers_to_know(upstream: Upstream) -> None:
    upstream.scripts = [refuse(400, "top_k must be positive")]
    with pytest.raises(InvalidRequest, match="top_k must be positive") as caught:
        await answer(upstream)
    assert caught.value.status == 400
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_the_workers_own_faults_are_not_told_to_the_caller(upstream: Upstream, status: int) -> None:
    upstream.scripts = [refuse(status, f"Incorrect API key provided: {SECRET}")]
    with pytest.raises(UpstreamFailed) as caught:
        await answer(upstream)
    assert SECRET not in caught.value.message
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize("script", [refuse(500), refuse(502), speak(ends=False), speak("", ends=False)])
async def test_failures_before_the_first_token_are_retried(upstream: Upstream, script: Any) -> None:
    upstream.scripts = [script, script, speak("at", " last")]
    assert (await answer(upstream)).text == "at last"
    assert len(upstream.bodies) == 3


async def test_retry_after_is_honoured(upstream: Upstream) -> None:
    clock = asyncio.get_running_loop().time
    upstream.scripts = [refuse(429, retry_after="0.7"), speak("at", " last")]
    began = clock()
    assert (await answer(upstream)).text == "at last"
    assert clock() - began >= 0.7


@pytest.mark.parametrize(("left_ms", "later", "tries"), [(-1, 0.1, 1), (15_000, 19.5, 2), (60_000, 0.1, 3)])
async def test_no_try_begins_after_the_deadline(upstream: Upstream, left_ms: int, later: float, tries: int) -> None:
    upstream.scripts = [refuse(503, retry_after="0.05"), refuse(503, retry_after=f"{later}"), speak("at", " last")]
    job = replace(make_job(chat()), deadline=now_ms() + left_ms)
    async with engine(upstream) as running:
        if tries == 3:
            assert "".join(step.text for step in await collect(running, job)) == "at last"
        else:
            with pytest.raises(EngineOverloaded) as caught:
                await collect(running, job)
            assert caught.value.retry_after == (later if tries == 2 else 0.05)
    assert len(upstream.bodies) == tries


async def test_an_upstream_that_wants_a_long_pause_is_not_asked_before(upstream: Upstream) -> None:
    upstream.scripts = [refuse(429, retry_after="3600")]
    with pytest.raises(EngineOverloaded) as caught:
        await answer(upstream)
    assert caught.value.retry_after == 3600
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize(
    ("status", "error", "retry_after"),
    [(500, UpstreamFailed, None), (503, EngineOverloaded, 0.1), (429, EngineOverloaded, 0.1)],
)
async def test_in_the_end_it_gives_up(
    upstream: Upstream, status: int, error: type[MillraceError], retry_after: float | None
) -> None:
    upstream.scripts = [refuse(status, "secret internals", retry_after="0.1")]
    with pytest.raises(error) as caught:
        await answer(upstream, openai_attempts=2)
    assert len(upstream.bodies) == 2
    assert caught.value.retry_after == retry_after
    assert "secret" not in caught.value.message


async def test_nothing_is_retried_once_a_token_came(upstream: Upstream) -> None:
    upstream.scripts = [speak("water", ends=False)]
    with pytest.raises(UpstreamFailed, match="in the middle"):
        await answer(upstream)
    assert len(upstream.bodies) == 1


@pytest.mark.parametrize("first", [True, False])
async def test_an_error_within_the_stream_fails_the_request(upstream: Upstream, first: bool) -> None:
    oops = event({"error": {"message": "secret internals", "code": 500}})
    upstream.scripts = [send(oops) if first else send(delta(True, "water"), oops)]
    with pytest.raises(UpstreamFailed) as caught:
        await answer(upstream, openai_attempts=2)
    assert "secret" not in caught.value.message
    assert len(upstream.bodies) == (2 if first else 1)


async def test_no_server_at_all(upstream: Upstream) -> None:
    settings = Settings(openai_base_url="http://127.0.0.1:1/v1", openai_attempts=2)
    engine = OpenAIEngine("small", ModelSpec(), settings)
    with pytest.raises(UpstreamFailed, match="can't be reached"):
        await collect(engine, make_job(chat()))
    await engine.close()


async def test_closing_the_iterator_closes_the_upstream_connection(upstream: Upstream) -> None:
    upstream.scripts = [speak(*["word "] * 1000, pause=0.02)]
    async with engine(upstream) as running:
        async with aclosing(running.generate(make_job(chat(stream=True)))) as steps:
            await anext(steps)
        await asyncio.wait_for(upstream.closed_early.wait(), 5)


async def test_connections_are_kept_alive(upstream: Upstream) -> None:
    async with engine(upstream) as running:
        for _ in range(5):
            await collect(running, make_job(chat()))
    assert len(upstream.clients) == 1


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_events_are_found_however_the_bytes_are_cut(size: int) -> None:
    stream = b": hello\r\n\r\ndata: one\r\n\r\nevent: x\ndata:two\n\ndata: \xe6\xb0\xb4\n\n"

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), size):
            yield stream[start : start + size]

    assert [data async for data in sse_data(pieces())] == [b"one", b"two", "水".encode()]
