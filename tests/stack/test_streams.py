"""Streams on the running stack: they outlive their connections and their ingress, and nobody waits for a reader."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from random import Random
from typing import Any
from uuid import uuid4

import aiohttp
import httpx
import orjson
import pytest

from bench.resuming import Heard, ResumingClient
from contracts.settings import Settings
from millrace.stack_file import StackFile
from tests.support.ingress import ingress_process
from tests.support.until import until

pytestmark = pytest.mark.stack
CHAT = "/v1/chat/completions"
STREAMS = 40


def body(question: str, max_tokens: int = 150) -> bytes:
    message = {"role": "user", "content": question}
    return orjson.dumps({"model": "small", "messages": [message], "stream": True, "max_tokens": max_tokens})


@pytest.fixture
async def secret(new_key: Callable[..., Awaitable[str]]) -> str:
    return await new_key("acme")


@pytest.fixture
async def http(stack: StackFile, secret: str) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60) as client:
        yield client


async def ended(http: httpx.AsyncClient, key: str) -> dict[str, Any]:
    """A request's last state."""
    found: dict[str, Any] = {}

    async def over() -> bool:
        answer = await http.get(f"/v1/requests/{key}")
        found.update(answer.json())
        return answer.status_code == 200 and found["finished_at"] is not None

    await until(over)
    return found


async def test_streams_outlive_their_connections_and_their_ingress(
    stack: StackFile, stack_settings: Settings, secret: str, http: httpx.AsyncClient
) -> None:
    """Cut at random bytes, gone on with at random replicas by POST and by GET; one replica is killed -9."""
    run, cut = uuid4().hex[:8], asyncio.Event()
    headers = {"Authorization": f"Bearer {secret}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with AsyncExitStack() as undo:
        patient = stack_settings.model_copy(update={"ingress_publish_timeout_ms": 30_000})  # on a busy machine
        starts = [undo.enter_async_context(ingress_process(patient)) for _ in range(2)]
        [(one, victim), (other, _)] = await asyncio.gather(*starts)
        session = await undo.enter_async_context(aiohttp.ClientSession(headers=headers, connector=connector))
        await until_known(session, [one, other])
        urls = [stack.url, one, other]

        async def stream(number: int) -> Heard:
            client = ResumingClient(session, urls, Random(number), most_bytes=6000)
            heard = await client.stream(f"{run}-{number}", body(f"{run} {number}"), cuts=2)
            cut.set()
            return heard

        streaming = [asyncio.create_task(stream(number)) for number in range(STREAMS)]
        await cut.wait()
        victim.kill()
        urls.remove(one)
        heards = await asyncio.gather(*streaming)
    for number, heard in enumerate(heards):
        choice = (await ended(http, f"{run}-{number}"))["response"]["choices"][0]
        assert (heard.text, heard.finish_reasons) == (choice["message"]["content"], [choice["finish_reason"]])
        assert (heard.roles, heard.done, heard.error) == (1, True, "")
        assert len(set(heard.ids)) == len(heard.ids)
    assert sum(heard.connections for heard in heards) > STREAMS


async def until_known(session: aiohttp.ClientSession, urls: list[str]) -> None:
    """The replicas have heard of the API key."""
    for url in urls:

        async def known(url: str = url) -> bool:
            return (await session.get(f"{url}/v1/models")).status == 200

        await until(known)


async def test_nobody_waits_for_a_reader_who_is_dead(stack: StackFile, http: httpx.AsyncClient) -> None:
    """It asks and never reads a byte; its answer is as long as ever, and others have theirs meanwhile."""
    key, url = f"dead-{uuid4()}", httpx.URL(stack.url)
    _, writer = await asyncio.open_connection(url.host, url.port, limit=1)
    content = body("Who reads this?", max_tokens=600)
    head = f"POST {CHAT} HTTP/1.1\r\nhost: {url.host}\r\nidempotency-key: {key}\r\n"
    head += f"authorization: {http.headers['authorization']}\r\ncontent-length: {len(content)}\r\n\r\n"
    writer.write(head.encode() + content)
    await writer.drain()
    others = [http.post(CHAT, content=body(f"{key} {number}", 20)) for number in range(8)]
    for answer in await asyncio.gather(*others):
        assert answer.content.endswith(b"data: [DONE]\n\n")
    state = await ended(http, key)
    assert state["status"] == "succeeded"
    writer.transport.abort()
    followed = await http.get(f"/v1/requests/{key}/events")
    heard = Heard()
    for event in followed.content.split(b"\n\n"):
        heard.take(event)
    assert heard.done
    assert heard.text == state["response"]["choices"][0]["message"]["content"]
