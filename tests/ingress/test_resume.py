"""Streams that are gone on with, and followed: over HTTP, in memory and on Kafka."""

import asyncio
from typing import Any

import httpx
import orjson
import pytest

from contracts.errors import EngineFailed
from contracts.outcomes import Outcome
from ingress.frame import RawFrame
from tests.support.frames import chat_answer, chat_run, final_of, hear
from tests.support.ingress import CHAT, Api
from tests.support.pipeline import Asked, failure

PARTS = ["It ", "is on ", "its way ", "since ", "Monday."]
TEXT = "".join(PARTS)
RUN = chat_run("a", PARTS)
FINAL = final_of(RUN, chat_answer(TEXT))


def chat(content: str = "Where is it?", **fields: Any) -> bytes:
    return orjson.dumps(
        {"model": "small", "messages": [{"role": "user", "content": content}], "stream": True, **fields}
    )


def whole(_: Asked) -> list[RawFrame]:
    return [*RUN, FINAL]


def events(answer: httpx.Response) -> list[bytes]:
    assert answer.status_code == 200, answer.text
    return [event + b"\n\n" for event in answer.content.split(b"\n\n")[:-1]]


def id_of(event: bytes) -> str:
    return event.partition(b"\n")[0].removeprefix(b"id: ").decode()


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    return f"resume-{abs(hash(request.node.nodeid))}"


async def test_a_finished_stream_goes_on_after_every_one_of_its_events(api: Api, key: str) -> None:
    api.pipeline.scenario = whole
    name = {"Idempotency-Key": key}
    async with api.http() as http:
        told = events(await http.post(CHAT, content=chat(), headers=name))
        assert hear(b"".join(told)).text == TEXT
        for heard in range(1, len(told)):
            after = {"Last-Event-ID": id_of(told[heard - 1])}
            posted = await http.post(CHAT, content=chat(), headers=name | after)
            followed = await http.get(f"/v1/requests/{key}/events", headers=after)
            for answer in (posted, followed):
                assert answer.headers["idempotency-key"] == key
                both = hear(b"".join(told[:heard] + events(answer)))
                assert (both.text, both.roles, both.finish_reasons) == (TEXT, ["assistant"], ["stop"])
                assert both.done
        after = {"Last-Event-ID": id_of(told[-1])}
        assert (await http.get(f"/v1/requests/{key}/events", headers=after)).status_code == 204
    assert len(api.pipeline.runs) == 1


async def test_a_running_stream_is_gone_on_with_byte_for_byte(api: Api, key: str) -> None:
    api.pipeline.scenario = lambda _: RUN[:4]
    name = {"Idempotency-Key": key}
    async with api.http() as http:
        heard = b""
        async with http.stream("POST", CHAT, content=chat(), headers=name) as answer:
            async for part in answer.aiter_bytes():
                heard += part
                if heard.count(b"\n\n") >= 3:
                    break
        kept = [event + b"\n\n" for event in heard.split(b"\n\n")[:3]]
        after = id_of(kept[-1])
        again = asyncio.create_task(http.post(CHAT, content=chat(), headers=name | {"Last-Event-ID": after}))
        await api.pipeline.seen(2)
        await api.pipeline.finish(f"acme:{key}".encode(), [*RUN[4:], FINAL])
        both = b"".join(kept) + (await again).content
    unbroken = b"".join(
        b"id: %b.%b.%b\ndata: %b\n\n"
        % (after.partition(".")[0].encode(), frame.headers["sequence"], frame.headers["position"], frame.value)
        for frame in RUN
    )
    assert both.startswith(unbroken)
    assert hear(both).done


async def test_what_was_posted_async_is_followed_from_the_start(api: Api, key: str) -> None:
    api.pipeline.scenario = lambda _: RUN[:3]
    async with api.http() as http:
        headers = {"Idempotency-Key": key, "Prefer": "respond-async"}
        accepted = await http.post(CHAT, content=chat(), headers=headers)
        assert accepted.status_code == 202
        address = accepted.headers["location"] + "/events"
        following = [asyncio.create_task(http.get(address, params={"include_usage": "true"})) for _ in range(2)]
        await api.pipeline.seen(4)  # the request, the lookup of its 202, two attaches
        await api.pipeline.finish(f"acme:{key}".encode(), [*RUN[3:], FINAL])
        for answer in [*await asyncio.gather(*following), await http.get(address)]:
            heard = hear(answer.content)
            assert (heard.text, heard.done) == (TEXT, True)
        assert hear((await following[0]).content).usage is not None


async def test_a_request_that_failed_ends_with_its_error(api: Api, key: str) -> None:
    api.pipeline.scenario = lambda _: [*RUN[:3], failure(EngineFailed("It broke."), Outcome.FAILED)]
    name = {"Idempotency-Key": key}
    async with api.http() as http:
        told = events(await http.post(CHAT, content=chat(), headers=name))
        again = await http.get(f"/v1/requests/{key}/events", headers={"Last-Event-ID": id_of(told[0])})
    error = hear(again.content).error
    assert error is not None
    assert error["code"] == "engine_failed"


async def test_what_cannot_be_followed(api: Api, key: str) -> None:
    api.pipeline.scenario = whole
    name = {"Idempotency-Key": key}
    async with api.http() as http:
        unknown = await http.get("/v1/requests/never-asked/events")
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "request_not_found")
        told = events(await http.post(CHAT, content=chat(), headers=name))
        after = {"Last-Event-ID": id_of(told[1])}
        malformed = await http.post(CHAT, content=chat(), headers=name | {"Last-Event-ID": "42"})
        assert (malformed.status_code, malformed.json()["error"]["param"]) == (400, "Last-Event-ID")
        unnamed = await http.post(CHAT, content=chat(), headers=after)
        assert (unnamed.status_code, unnamed.json()["error"]["param"]) == (400, "Idempotency-Key")
        other = await http.post(CHAT, content=chat("Another question"), headers=name | after)
        assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")
        strange = await http.get("/v1/requests/never-asked/events", headers=after)
        assert strange.status_code == 404
    assert len(api.pipeline.runs) == 1


async def test_openais_sdk_reads_a_resumed_stream(api: Api, key: str) -> None:
    api.pipeline.scenario = whole
    name = {"Idempotency-Key": key}
    async with api.http() as http:
        told = events(await http.post(CHAT, content=chat(), headers=name))
    async with api.openai() as client:
        stream = await client.chat.completions.create(
            model="small",
            messages=[{"role": "user", "content": "Where is it?"}],
            stream=True,
            extra_headers=name | {"Last-Event-ID": id_of(told[2])},
        )
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert hear(b"".join(told[:3])).text + text == TEXT
