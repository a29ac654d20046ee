"""The official OpenAI SDK, unchanged."""

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from contracts.errors import EngineFailed, RateLimited
from contracts.outcomes import Outcome
from tests.support.frames import chat_run
from tests.support.ingress import Api
from tests.support.pipeline import failure

HELLO: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hello wide world"}]


async def test_chat(api: Api) -> None:
    async with api.openai() as client:
        answer = await client.chat.completions.create(model="small", messages=HELLO)
    assert answer.choices[0].message.content == "hello wide world"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 12


async def test_chat_streamed(api: Api) -> None:
    async with api.openai() as client:
        stream = await client.chat.completions.create(model="auto", messages=HELLO, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello wide world"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_usage_of_a_stream(api: Api) -> None:
    async with api.openai() as client:
        stream = await client.chat.completions.create(
            model="small", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 12


async def test_the_streaming_helper(api: Api) -> None:
    async with api.openai() as client, client.chat.completions.stream(model="small", messages=HELLO) as stream:
        final = await stream.get_final_completion()
    assert final.choices[0].message.content == "hello wide world"


async def test_text_completion(api: Api) -> None:
    async with api.openai() as client:
        answer = await client.completions.create(model="small", prompt="once upon a time")
        stream = await client.completions.create(model="small", prompt="once upon a time", stream=True)
        streamed = "".join([chunk.choices[0].text async for chunk in stream])
    assert answer.choices[0].text == streamed == "once upon a time"


async def test_raw_response_headers(api: Api) -> None:
    async with api.openai() as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="small", messages=HELLO, extra_headers={"Idempotency-Key": '"sdk-1"'}
        )
    assert raw.headers["idempotency-key"] == "sdk-1"
    assert raw.headers["millrace-model"] == "small"
    assert raw.headers["millrace-idempotency-window"] == "86400"
    assert raw.request_id == "sdk-1"
    assert int(raw.headers["openai-processing-ms"]) >= 0


async def test_models(api: Api) -> None:
    async with api.openai() as client:
        names = [model.id async for model in client.models.list()]
        small = await client.models.retrieve("small")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("huge")
    assert names == ["small", "large", "auto", "auto:cheap", "auto:best"]
    assert small.id == "small"


async def test_wrong_key(api: Api) -> None:
    async with api.openai(api_key="mr_wrong") as client:
        with pytest.raises(openai.AuthenticationError, match="unknown or was revoked"):
            await client.chat.completions.create(model="small", messages=HELLO)


async def test_unknown_model(api: Api) -> None:
    async with api.openai() as client:
        with pytest.raises(openai.NotFoundError, match="use one of: small, large, auto") as caught:
            await client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert caught.value.code == "model_not_found"


async def test_wrong_type(api: Api) -> None:
    async with api.openai() as client:
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(model="small", messages=HELLO, temperature=7)
    assert caught.value.param == "temperature"


@pytest.mark.parametrize("stream", [False, True])
async def test_rate_limit(api: Api, stream: bool) -> None:
    api.pipeline.scenario = lambda _: [failure(RateLimited("Slow down.", retry_after=2.1), Outcome.REJECTED)]
    async with api.openai() as client:
        with pytest.raises(openai.RateLimitError, match="Slow down") as caught:
            await client.chat.completions.create(model="small", messages=HELLO, stream=stream)
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.type == "rate_limit_error"


async def test_the_engine_fails(api: Api) -> None:
    api.pipeline.scenario = lambda _: [failure(EngineFailed("It broke."), Outcome.FAILED)]
    async with api.openai() as client:
        with pytest.raises(openai.InternalServerError, match="It broke"):
            await client.chat.completions.create(model="small", messages=HELLO)


async def test_the_engine_fails_within_a_stream(api: Api) -> None:
    api.pipeline.scenario = lambda _: [
        *chat_run("a", ["hel", "lo"])[:2],
        failure(EngineFailed("It broke."), Outcome.FAILED),
    ]
    heard: list[str] = []

    async def listen(stream: openai.AsyncStream[ChatCompletionChunk]) -> None:
        async for chunk in stream:
            heard.append(chunk.choices[0].delta.content or "")  # noqa: PERF401 - it ends with an error

    async with api.openai() as client:
        stream = await client.chat.completions.create(model="small", messages=HELLO, stream=True)
        with pytest.raises(openai.APIError, match="It broke"):
            await listen(stream)
    assert "".join(heard) == "hel"


async def test_a_retry_by_the_sdk_after_429_runs(api: Api) -> None:
    answers = iter([[failure(RateLimited("Slow down.", retry_after=0.01), Outcome.REJECTED)]])
    echo = api.pipeline.scenario
    api.pipeline.scenario = lambda asked: next(answers, None) or echo(asked)
    async with api.openai(max_retries=2) as client:
        answer = await client.chat.completions.create(
            model="small", messages=HELLO, extra_headers={"Idempotency-Key": "sdk-retry"}
        )
    assert answer.choices[0].message.content == "hello wide world"
    assert len(api.pipeline.runs) == 2
