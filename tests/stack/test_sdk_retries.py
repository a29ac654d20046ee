"""OpenAI's own SDK, its own retries on, over a network that cuts: one run for each call of the program's."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import httpx
import openai
import pytest

from millrace.stack_file import StackFile
from tests.support.audit import audit, read_all
from tests.support.cuts import CuttingProxy, cutting_proxy
from tests.support.until import until

pytestmark = pytest.mark.stack
CALLS = 24
SEED = 20261122
UP, DOWN = 4_000, 3_000  # bytes: a few calls; more cuts cost the SDK seconds of back-off


class Millrace(openai.AsyncOpenAI):
    """As in docs/idempotency.md."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idempotency_header = "Idempotency-Key"


@pytest.fixture
async def network(stack: StackFile) -> AsyncIterator[tuple[str, CuttingProxy]]:
    target = httpx.URL(stack.url)
    assert target.port is not None
    async with cutting_proxy(target.host, target.port, seed=SEED, up=UP, down=DOWN) as (address, proxy):
        yield f"http://{address}/v1", proxy


def asked(number: int, run: str) -> dict[str, Any]:
    return {
        "model": "small",
        "messages": [{"role": "user", "content": f"call {number} of {run}"}],
        "max_tokens": 20 + number,
    }


async def whole(client: openai.AsyncOpenAI, number: int, run: str) -> tuple[str, int]:
    answer = await client.chat.completions.create(**asked(number, run), extra_headers={"Millrace-Feature": run})
    assert answer.usage is not None
    return answer.id, answer.usage.completion_tokens


async def streamed(client: openai.AsyncOpenAI, number: int, run: str) -> tuple[str, int]:
    """The SDK doesn't retry what was cut after its first byte: the program does, with one key."""
    headers = {"Millrace-Feature": run, "Idempotency-Key": f"{run}-{number}"}
    while True:
        try:
            return await _follow(client, headers, asked(number, run))
        except openai.APIConnectionError:
            continue


async def _follow(client: openai.AsyncOpenAI, headers: dict[str, str], fields: dict[str, Any]) -> tuple[str, int]:
    fields = {**fields, "stream": True, "stream_options": {"include_usage": True}}
    stream = await client.chat.completions.create(**fields, extra_headers=headers)
    chunks = [chunk async for chunk in stream]
    assert chunks[-1].usage is not None
    return chunks[-1].id, chunks[-1].usage.completion_tokens


@pytest.mark.parametrize("call", [whole, streamed])
async def test_one_run_for_each_call(
    network: tuple[str, CuttingProxy],
    stack: StackFile,
    new_key: Callable[..., Awaitable[str]],
    call: Callable[..., Awaitable[tuple[str, int]]],
) -> None:
    (url, proxy), run = network, f"cuts-{uuid4()}"
    async with Millrace(base_url=url, api_key=await new_key("acme"), max_retries=20, timeout=20) as client:
        answers = await asyncio.gather(*(call(client, number, run) for number in range(CALLS)))
    assert sum(proxy.cuts.values()) > 3, "the network was too good"
    assert len({identifier for identifier, _ in answers}) == CALLS
    bills = await billed(stack, run)
    assert sorted(bills.values()) == sorted(tokens for _, tokens in answers) == list(range(20, 20 + CALLS))
    completions = await read_all(stack.kafka, "completions")
    runs = Counter(record.key.decode() for record in completions if record.key.decode() in bills)
    assert runs == dict.fromkeys(bills, 1)


async def billed(stack: StackFile, run: str) -> dict[str, int]:
    """Tokens by key, of every request of that run, once there are enough."""
    found: dict[str, int] = {}

    async def enough() -> bool:
        for key, events in (await audit(stack.kafka)).usage.items():
            tokens = [event.completion_tokens for event in events.values() if event.feature == run]
            assert len(tokens) <= 1, key
            found.update({key: tokens[0]} if tokens else {})
        return len(found) >= CALLS

    await until(enough)
    return found
