"""Cancelling and hanging up on the running stack: what docs/cancel.md promises, with races and kills."""

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contracts.outcomes import Outcome
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from millrace.stack_file import StackFile, running_stack
from tests.stack.test_kills import child
from tests.support.audit import audit
from tests.support.frames import hear
from tests.support.ingress import ingress_process
from tests.support.processes import gone
from tests.support.until import until

pytestmark = pytest.mark.stack
CHAT = "/v1/chat/completions"
LONG = 10_000  # tokens: minutes
KILL_SECONDS = 60.0  # until whoever was killed is back and has gone on


def body(max_tokens: int = LONG, **fields: Any) -> bytes:
    asked = {"model": "large", "messages": [{"role": "user", "content": "Tell me of mills."}], "max_tokens": max_tokens}
    return orjson.dumps(asked | fields)


def new_name() -> str:
    return f"cancel-{uuid4()}"


class Caller:
    """One client of one ingress."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def later(self, key: str, content: bytes) -> None:
        headers = {"Idempotency-Key": key, "Prefer": "respond-async"}
        answer = await self.http.post(CHAT, content=content, headers=headers)
        assert answer.status_code == 202, answer.text

    async def _listen(self, stream: AbstractAsyncContextManager[httpx.Response], begun: asyncio.Event) -> bytes:
        heard = b""
        async with stream as answer:
            assert answer.status_code == 200
            async for part in answer.aiter_bytes():
                heard += part
                if b'"content":"' in heard:
                    begun.set()
        return heard

    async def begin(self, key: str, content: bytes, **headers: str) -> "asyncio.Task[bytes]":
        """A stream that goes on, once there was text."""
        given = {"Idempotency-Key": key, **headers}
        return await self._begun(self.http.stream("POST", CHAT, content=content, headers=given))

    async def follow(self, key: str, **headers: str) -> "asyncio.Task[bytes]":
        """Another's stream, once there was text."""
        return await self._begun(self.http.stream("GET", f"/v1/requests/{key}/events", headers=headers))

    async def _begun(self, stream: AbstractAsyncContextManager[httpx.Response]) -> "asyncio.Task[bytes]":
        begun = asyncio.Event()
        listening = asyncio.create_task(self._listen(stream, begun))
        waiting = asyncio.create_task(begun.wait())
        async with asyncio.timeout(KILL_SECONDS):
            await asyncio.wait((listening, waiting), return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if listening.done():
            listening.result()
        return listening

    async def delete(self, key: str) -> httpx.Response:
        """Until somebody can say: whoever should may just have been killed."""
        async with asyncio.timeout(KILL_SECONDS):
            while True:
                try:
                    answer = await self.http.delete(f"/v1/requests/{key}")
                except httpx.TransportError:
                    await asyncio.sleep(0.2)
                    continue
                if answer.status_code in (200, 404, 409):
                    return answer
                await asyncio.sleep(0.2)

    async def state(self, key: str) -> dict[str, Any]:
        state: dict[str, Any] = (await self.http.get(f"/v1/requests/{key}")).json()
        return state

    async def ended(self, key: str) -> dict[str, Any]:
        """Its last state."""
        found: dict[str, Any] = {}

        async def over() -> bool:
            found.update(await self.state(key))
            return found["status"] not in ("in_progress", "cancelling")

        await until(over)
        return found


@pytest.fixture
async def at(new_key: Callable[..., Awaitable[str]]) -> AsyncIterator[Callable[[str], Awaitable[Caller]]]:
    """A caller of the ingress at that address."""
    async with AsyncExitStack() as clients:

        async def make(url: str) -> Caller:
            headers = {"Authorization": f"Bearer {await new_key('acme')}"}
            client = httpx.AsyncClient(base_url=url, headers=headers, timeout=KILL_SECONDS)
            await clients.enter_async_context(client)

            async def known() -> bool:
                return (await client.get("/v1/models")).status_code == httpx.codes.OK

            await until(known)
            return Caller(client)

        yield make


@pytest.fixture
async def acme(stack: StackFile, at: Callable[[str], Awaitable[Caller]]) -> Caller:
    return await at(stack.url)


Bill = Callable[[str], Awaitable[UsageEvent]]


@pytest.fixture
def bill(data_dir: Path) -> Bill:
    """The one bill of a key."""

    async def read(key: str) -> UsageEvent:
        bills: list[UsageEvent] = []

        async def billed() -> bool:
            events = (await audit(running_stack(data_dir).kafka)).usage[f"acme:{key}"].values()
            bills[:] = [event for event in events if event.kind is UsageKind.USAGE]
            return bool(bills)

        await until(billed)
        [event] = bills
        return event

    return read


def content(response: dict[str, Any]) -> str:
    return str(response["choices"][0]["message"]["content"])


def check(state: dict[str, Any], event: UsageEvent) -> None:
    """What was produced is the answer, and the bill, to the token."""
    assert state["status"] == "cancelled"
    assert state["response"]["choices"][0]["finish_reason"] == "cancelled"
    assert event.outcome is Outcome.CANCELLED
    assert event.completion_tokens == len(content(state["response"]).split()) < LONG
    assert event.completion_tokens == state["response"]["usage"]["completion_tokens"]


async def test_a_stream_is_cancelled_by_another_and_ends_with_what_it_had(acme: Caller, bill: Bill) -> None:
    key = new_name()
    listening = await acme.begin(key, body(stream=True))
    answer = await acme.delete(key)
    heard = hear(await listening)
    again, state = await acme.http.delete(f"/v1/requests/{key}"), await acme.state(key)
    replay = await acme.http.post(CHAT, content=body(), headers={"Idempotency-Key": key})
    event = await bill(key)
    check(state, event)
    assert answer.status_code == again.status_code == 200
    assert answer.json() == again.json() == state
    assert (heard.done, heard.finish_reasons, heard.text) == (True, ["cancelled"], content(state["response"]))
    assert replay.json() == state["response"]
    assert (replay.headers["idempotent-replayed"], replay.headers["millrace-outcome"]) == ("true", "cancelled")
    assert event.completion_tokens > 0
    assert event.cost_nano > 0


async def test_only_its_own_tenants_and_only_what_hasnt_ended(
    acme: Caller, new_key: Callable[..., Awaitable[str]]
) -> None:
    key, running = new_name(), new_name()
    await acme.http.post(CHAT, content=body(2), headers={"Idempotency-Key": key})
    assert (await acme.delete(key)).status_code == 409
    assert (await acme.delete(new_name())).status_code == 404
    await acme.later(running, body())
    stranger = {"Authorization": f"Bearer {await new_key('other')}"}
    assert (await acme.http.delete(f"/v1/requests/{running}", headers=stranger)).status_code == 404
    assert (await acme.state(running))["status"] == "in_progress"
    assert (await acme.delete(running)).status_code == 200


async def test_a_record_on_control_cancels_too(acme: Caller, stack: StackFile, bill: Bill) -> None:
    key = new_name()
    await acme.later(key, body())
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
        await producer.send_and_wait("control", b"", key=f"acme:{key}".encode())
    check(await acme.ended(key), await bill(key))


async def test_who_asks_and_cancels_at_once_learns_what_became_of_it(acme: Caller, bill: Bill) -> None:
    """From before it runs to after it has ended: whatever the answer, the log, the state and the bill agree."""
    keys = [new_name() for _ in range(24)]
    seen = set()

    async def race(number: int, key: str) -> None:
        await acme.later(key, body(4, model="small"))
        await asyncio.sleep(random.random() * 0.1)
        answer = await acme.delete(key)
        state = await acme.state(key)
        seen.add(answer.status_code)
        assert state["status"] == {200: "cancelled", 409: "succeeded"}[answer.status_code]
        assert content(state["response"]).split()[:4] == content(state["response"]).split(), number

    await asyncio.gather(*(race(number, key) for number, key in enumerate(keys)))
    assert seen <= {200, 409}
    for key in keys:
        event, state = await bill(key), await acme.state(key)
        assert event.outcome == state["status"]
        assert event.completion_tokens == len(content(state["response"]).split())


@pytest.mark.parametrize("victims", [("worker-1", "worker-2"), ("streams", "ingress")])
async def test_a_cancellation_survives_kills(
    acme: Caller, data_dir: Path, bill: Bill, victims: tuple[str, ...]
) -> None:
    keys = [new_name() for _ in range(6)]
    for key in keys:
        await acme.later(key, body())
    stack = running_stack(data_dir)
    pids = [child(stack, victim) for victim in victims]

    async def kill() -> None:
        await asyncio.sleep(random.random() * 0.05)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*(gone(pid) for pid in pids))

    answers, _ = await asyncio.gather(asyncio.gather(*(acme.delete(key) for key in keys)), kill())
    assert [answer.status_code for answer in answers] == [200] * len(keys)
    for key, answer in zip(keys, answers, strict=True):
        check(answer.json(), await bill(key))


@pytest.fixture(scope="module")
def hasty(data_dir: Path) -> Settings:
    """Of an ingress where who hangs up has left at once."""
    return Settings(kafka_bootstrap_servers=running_stack(data_dir).kafka, ingress_return_seconds=0.0)


@pytest.fixture(scope="module")
async def urls(hasty: Settings) -> AsyncIterator[tuple[str, str]]:
    """Two more ingress processes."""
    async with AsyncExitStack() as processes:
        started = [processes.enter_async_context(ingress_process(hasty)) for _ in range(2)]
        (first, _), (second, _) = await asyncio.gather(*started)
        yield first, second


@pytest.fixture
async def two(urls: tuple[str, str], at: Callable[[str], Awaitable[Caller]]) -> tuple[Caller, Caller]:
    return await at(urls[0]), await at(urls[1])


async def hang_up(listening: "asyncio.Task[bytes]") -> None:
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)


async def test_the_last_of_several_callers_decides(two: tuple[Caller, Caller], acme: Caller, bill: Bill) -> None:
    first, second = two
    key = new_name()
    one = await first.begin(key, body(stream=True))
    other = await second.follow(key, **{"Millrace-On-Disconnect": "cancel"})
    await hang_up(one)
    assert (await acme.state(key))["status"] == "in_progress"
    await hang_up(other)
    check(await acme.ended(key), await bill(key))


@pytest.mark.parametrize("way", ["detach", "drain"])
async def test_what_should_run_on_runs_on(two: tuple[Caller, Caller], acme: Caller, bill: Bill, way: str) -> None:
    key = new_name()
    listening = await two[0].begin(key, body(100, stream=True), **{"Millrace-On-Disconnect": way})
    await hang_up(listening)
    state, event = await acme.ended(key), await bill(key)
    assert state["status"] == event.outcome == "succeeded"
    assert event.completion_tokens == len(content(state["response"]).split()) == 100


async def test_who_comes_back_in_time_finds_it_running(acme: Caller) -> None:
    """At an ingress that waits for its callers to return."""
    key = new_name()
    await hang_up(await acme.begin(key, body(stream=True)))
    again = await acme.follow(key)
    assert (await acme.state(key))["status"] == "in_progress"
    assert (await acme.delete(key)).status_code == 200
    assert hear(await again).finish_reasons == ["cancelled"]


async def test_an_ingress_that_is_killed_says_nothing_and_its_requests_run_on(
    hasty: Settings, at: Callable[[str], Awaitable[Caller]], acme: Caller
) -> None:
    key = new_name()
    async with ingress_process(hasty) as (url, process):
        listening = await (await at(url)).begin(key, body(150, stream=True))
        process.kill()
        await asyncio.gather(listening, return_exceptions=True)
    state = await acme.ended(key)
    assert (state["status"], len(content(state["response"]).split())) == ("succeeded", 150)
