"""Answers are counted by route and status; streams and callers while they last."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from contracts.instruments import exposition
from contracts.metrics import CALLERS, HTTP_DURATION, HTTP_IN_FLIGHT, HTTP_REQUESTS, KAFKA_UP, OPEN_STREAMS
from contracts.settings import Settings
from ingress.gateway import Gateway
from tests.support.ingress import CHAT, Api, MemoryLog, memory_api
from tests.support.metering import rise, value
from tests.support.until import until


@pytest.fixture
async def own() -> AsyncIterator[tuple[Api, Gateway]]:
    """Whose gauges nobody else moves."""
    async with memory_api(Settings(ingress_return_seconds=3600)) as served:
        yield served


def body(*, stream: bool = False) -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": "hello"}], "stream": stream}


async def test_answers_by_route_and_status(own: tuple[Api, Gateway]) -> None:
    api, _ = own
    good, bad = rise(HTTP_REQUESTS, "POST", CHAT, "200"), rise(HTTP_REQUESTS, "POST", CHAT, "401")
    fetched, other = rise(HTTP_REQUESTS, "GET", "/v1/requests/{key}", "404"), rise(HTTP_REQUESTS, "", "other", "404")
    timed = rise(HTTP_DURATION, "POST", CHAT)
    async with api.http() as http:
        assert (await http.post(CHAT, json=body())).status_code == 200
        assert (await http.post(CHAT, json=body(), headers={"Authorization": "Bearer no"})).status_code == 401
        assert (await http.get("/v1/requests/nobody%2Fasked")).status_code == 404
        assert (await http.get("/v2/nothing")).status_code == 404
    assert (good(), bad(), fetched(), other(), timed()) == (1, 1, 1, 1, 2)
    assert value(HTTP_REQUESTS, "POST", CHAT, "503") is not None
    assert value(HTTP_IN_FLIGHT) == 0


async def test_a_stream_is_open_until_its_end(own: tuple[Api, Gateway]) -> None:
    api, _ = own
    asked = asyncio.Event()
    finish = rise(HTTP_REQUESTS, "POST", CHAT, "200")
    frames: list[Any] = []

    def first_words(question: Any) -> list[Any]:
        from tests.support.pipeline import echo  # noqa: PLC0415

        frames[:] = echo(question)
        asked.set()
        return frames[:1]

    api.pipeline.scenario = first_words
    async with api.http() as http, http.stream("POST", CHAT, json=body(stream=True)) as answer:
        await asked.wait()
        lines = answer.aiter_lines()
        await anext(lines)
        exposition("")
        assert (value(OPEN_STREAMS, "sse"), value(HTTP_IN_FLIGHT), value(CALLERS)) == (1, 1, 1)
        await api.pipeline.finish(api.pipeline.runs[-1], frames[1:])
        async for _ in lines:
            pass
    assert (value(OPEN_STREAMS, "sse"), finish()) == (0, 1)


async def test_a_caller_that_leaves_is_counted_nowhere_twice(own: tuple[Api, Gateway]) -> None:
    api, _ = own
    api.pipeline.scenario = lambda _: []
    async with api.http() as http:
        asking = asyncio.create_task(http.post(CHAT, json=body()))
        await api.pipeline.seen()
        asking.cancel()
        await asyncio.wait({asking})

    async def nobody() -> bool:
        exposition("")
        return bool(value(CALLERS) == 0 and value(HTTP_IN_FLIGHT) == 0)

    await until(nobody)


async def test_whether_kafka_is_there(own: tuple[Api, Gateway]) -> None:
    _, gateway = own
    assert isinstance(gateway.log, MemoryLog)
    exposition("")
    assert value(KAFKA_UP) == 1
    gateway.log.reachable = False
    exposition("")
    assert value(KAFKA_UP) == 0
