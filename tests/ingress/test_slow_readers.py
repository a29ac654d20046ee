"""Clients that read slowly or not at all, and streams without news."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import orjson
import pytest

from contracts.errors import EngineFailed
from contracts.outcomes import Outcome
from contracts.settings import Settings
from ingress.calls import MOST_HELD_BYTES
from ingress.frame import RawFrame
from ingress.gateway import Gateway
from tests.support.frames import chat_answer, chat_chunk, chat_run, final_of, hear, number
from tests.support.ingress import CHAT, Api, memory_api
from tests.support.pipeline import failure
from tests.support.until import until

PART = "x" * 20_000
PARTS = 24 * MOST_HELD_BYTES // len(PART)
TEXT = PART * PARTS


@pytest.fixture
async def impatient() -> AsyncIterator[tuple[Api, Gateway]]:
    """A heartbeat whenever nothing came for a moment."""
    async with memory_api(Settings(ingress_heartbeat_seconds=0.05, ingress_wait_seconds=60)) as served:
        yield served


def body(content: str = "Where is it?") -> bytes:
    return orjson.dumps({"model": "small", "stream": True, "messages": [{"role": "user", "content": content}]})


def flood() -> list[RawFrame]:
    """Far more than sockets and one caller's buffer hold together."""
    chunks = [(chat_chunk({"role": "assistant", "content": ""}), 0)]
    chunks += [(chat_chunk({"content": PART}), len(PART)) for _ in range(PARTS)]
    return number("flood", [*chunks, (chat_chunk({}, "stop"), 0)])


def held(gateway: Gateway) -> int:
    return sum(len(frame.value) for call in gateway.calls for frame in call._frames)


@pytest.mark.parametrize("followed", [False, True])
async def test_a_slow_reader_gets_all_and_little_is_kept_for_it(impatient: tuple[Api, Gateway], followed: bool) -> None:
    api, gateway = impatient
    run = flood()
    api.pipeline.scenario = lambda _: run
    key = "slow"
    async with api.http(**{"Idempotency-Key": key}) as http:
        if followed:
            await http.post(CHAT, content=body(), headers={"Prefer": "respond-async"})
            asking = http.stream("GET", f"/v1/requests/{key}/events")
        else:
            asking = http.stream("POST", CHAT, content=body())
        async with asking as answer:
            parts = answer.aiter_bytes()
            heard = [await anext(parts)]

            async def lags() -> bool:
                return any(call.lagging for call in gateway.calls)

            await until(lags)
            assert held(gateway) <= MOST_HELD_BYTES + 2 * len(PART)
            reading = asyncio.create_task(_rest(parts))
            await api.pipeline.finish(f"acme:{key}".encode(), [final_of(run, chat_answer(TEXT))])
            heard += await reading
    told = hear(b"".join(heard))
    assert told.done
    assert told.text == TEXT
    assert told.finish_reasons == ["stop"]


async def _rest(parts: AsyncIterator[bytes]) -> list[bytes]:
    return [part async for part in parts]


async def test_a_stream_without_news_has_heartbeats_that_no_client_minds(impatient: tuple[Api, Gateway]) -> None:
    api, _ = impatient
    run = chat_run("a", ["one ", "two"])
    api.pipeline.scenario = lambda _: run[:2]
    async with api.openai() as client, api.http(**{"Idempotency-Key": "quiet"}) as http:
        stream = await client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Where is it?"}],
            stream=True,
            extra_headers={"Idempotency-Key": "quiet"},
        )
        async with http.stream("GET", "/v1/requests/quiet/events") as answer:
            heartbeats = await _until_heartbeats(answer, 5)
        await api.pipeline.finish(b"acme:quiet", [*run[2:], final_of(run, chat_answer("one two"))])
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert heartbeats >= 5
    assert text == "one two"


async def test_a_stream_that_is_long_in_beginning_has_them_too(impatient: tuple[Api, Gateway]) -> None:
    api, _ = impatient
    api.pipeline.scenario = lambda _: []
    async with api.http(**{"Idempotency-Key": "late"}) as http, http.stream("POST", CHAT, content=body()) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        assert [await anext(lines) for _ in range(3)] == [":"] * 3
        await api.pipeline.finish(b"acme:late", [failure(EngineFailed("It broke."), Outcome.FAILED)])
        rest = [line async for line in lines if line.startswith("data: ")]
    assert [orjson.loads(line.removeprefix("data: "))["error"]["code"] for line in rest] == ["engine_failed"]


async def _until_heartbeats(answer: httpx.Response, count: int) -> int:
    seen = 0
    async with asyncio.timeout(30):
        async for line in answer.aiter_lines():
            seen += line == ":"
            if seen >= count:
                break
    return seen
