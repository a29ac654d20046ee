"""Replicas that are killed in the middle of their streams; real Kafka, the frames played by the test."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import httpx
import orjson
import pytest

from contracts.api_keys import ApiKey, new_api_key
from contracts.settings import Settings
from ingress.frame import RawFrame
from tests.support.frames import chat_answer, chat_run, final_of, hear
from tests.support.ingress import CHAT, DEADLINE_SECONDS, ingress_process, kafka_pipeline, write_key
from tests.support.pipeline import Pipeline

pytestmark = pytest.mark.broker
STREAMS = 40
PARTS = [f"word-{number} " for number in range(30)]


def key_of(number: int) -> str:
    return f"killed-{number}"


def run_of(number: int) -> tuple[list[RawFrame], str]:
    parts = [f"{number}:", *PARTS]
    return chat_run(f"run-{number}", parts), "".join(parts)


def body(number: int) -> bytes:
    return orjson.dumps({"model": "small", "stream": True, "messages": [{"role": "user", "content": str(number)}]})


@pytest.fixture
async def secret(settings: Settings) -> str:
    secret = new_api_key()
    await write_key(settings, secret, ApiKey(id="k1", tenant="acme", created_at=0))
    return secret


@pytest.fixture
async def pipeline(settings: Settings) -> AsyncIterator[Pipeline]:
    async with kafka_pipeline(settings) as pipeline:
        yield pipeline


async def read_until_cut(http: httpx.AsyncClient, number: int, begun: asyncio.Event) -> bytes:
    """What a client has when its ingress dies."""
    heard = b""
    try:
        async with http.stream(
            "POST", CHAT, content=body(number), headers={"Idempotency-Key": key_of(number)}
        ) as answer:
            async for part in answer.aiter_bytes():
                heard += part
                if b"word-" in heard:
                    begun.set()
    except httpx.TransportError:
        return heard
    raise AssertionError(f"the stream should have been cut, not ended: {heard!r}")


async def test_every_stream_of_a_killed_ingress_goes_on_at_another(
    settings: Settings, secret: str, pipeline: Pipeline
) -> None:
    """Some frames came before the kill, some while nobody listened, the rest to those who followed."""
    random = Random(5)
    cuts = [sorted(random.sample(range(3, len(PARTS)), 3)) for _ in range(STREAMS)]
    pipeline.scenario = lambda asked: run_of(int(asked.prompt))[0][: cuts[int(asked.prompt)][0]]
    headers = {"Authorization": f"Bearer {secret}"}
    limits = httpx.Limits(max_connections=None)
    client: Any = lambda url: httpx.AsyncClient(  # noqa: E731
        base_url=url, headers=headers, timeout=DEADLINE_SECONDS, limits=limits
    )
    patient = settings.model_copy(update={"ingress_publish_timeout_ms": 30_000})  # on a busy machine
    async with ingress_process(patient) as (one, victim), ingress_process(patient) as (other, _):
        begun = [asyncio.Event() for _ in range(STREAMS)]
        async with client(one) as http:
            reading = [asyncio.create_task(read_until_cut(http, number, begun[number])) for number in range(STREAMS)]
            await asyncio.gather(*(event.wait() for event in begun))
            victim.kill()
            heard = await asyncio.gather(*reading)
        await play(pipeline, cuts, 0, 1)
        asked = len(pipeline.asked)
        async with client(other) as http:
            going_on = [asyncio.create_task(go_on(http, number, heard[number])) for number in range(STREAMS)]
            await pipeline.seen(asked + STREAMS)
            await play(pipeline, cuts, 1, 2)
            for number in range(STREAMS):
                run, text = run_of(number)
                end = [*run[cuts[number][2] :], final_of(run, chat_answer(text))]
                await pipeline.finish(f"acme:{key_of(number)}".encode(), end)
            rest = await asyncio.gather(*going_on)
    for number in range(STREAMS):
        whole = hear(heard[number].rpartition(b"\n\n")[0] + b"\n\n" + rest[number])
        assert (whole.text, whole.roles, whole.finish_reasons, whole.done) == (
            run_of(number)[1],
            ["assistant"],
            ["stop"],
            True,
        )
        assert len(set(whole.ids)) == len(whole.ids) == whole.chunks + 1
    assert len(pipeline.runs) == STREAMS


async def play(pipeline: Pipeline, cuts: list[list[int]], start: int, stop: int) -> None:
    for number, places in enumerate(cuts):
        await pipeline.finish(f"acme:{key_of(number)}".encode(), run_of(number)[0][places[start] : places[stop]])


async def go_on(http: httpx.AsyncClient, number: int, heard: bytes) -> bytes:
    """By GET or by the same POST."""
    after = hear(heard.rpartition(b"\n\n")[0] + b"\n\n").ids[-1]
    headers = {"Idempotency-Key": key_of(number), "Last-Event-ID": after}
    if number % 2:
        answer = await http.get(f"/v1/requests/{key_of(number)}/events", headers=headers)
    else:
        answer = await http.post(CHAT, content=body(number), headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.content
