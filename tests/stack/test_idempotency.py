"""Idempotency on the running stack: what docs/idempotency.md promises, line by line."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from contracts.settings import Settings
from contracts.usage import UsageEvent
from millrace.stack_file import StackFile
from tests.support.audit import audit, read_all
from tests.support.frames import hear
from tests.support.ingress import ingress_process
from tests.support.until import until

pytestmark = pytest.mark.stack
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HOUR_MS = 3_600_000
WINDOW_HOURS = Settings().idempotency_window_hours
ASKED = {"model": "small", "messages": [{"role": "user", "content": "Where is my order?"}], "max_tokens": 8}
REPLAYED = "idempotent-replayed"


def body(**fields: Any) -> bytes:
    return orjson.dumps(ASKED | fields)


def new_name() -> str:
    return f"idem-{uuid4()}"


def text_of(answer: httpx.Response) -> str:
    """Of a whole answer or of a stream."""
    if answer.headers["content-type"].startswith("text/event-stream"):
        heard = hear(answer.content)
        assert heard.done, heard
        return heard.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


class Caller:
    """One tenant's client of one ingress."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(
        self, key: str, content: bytes | None = None, *, path: str = CHAT, stream: bool = False
    ) -> httpx.Response:
        content = content or body(stream=stream)
        return await self.http.post(path, content=content, headers={"Idempotency-Key": key})

    async def beginning(self, key: str, content: bytes, begun: asyncio.Event) -> httpx.Response:
        """A streamed post; `begun` when its first bytes are here."""
        async with self.http.stream("POST", CHAT, content=content, headers={"Idempotency-Key": key}) as answer:
            parts = []
            async for part in answer.aiter_bytes():
                parts.append(part)
                begun.set()
        return httpx.Response(answer.status_code, headers=answer.headers, content=b"".join(parts))


@pytest.fixture
async def callers(stack: StackFile, new_key: Callable[..., Awaitable[str]]) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as clients:

        async def make(tenant: str = "acme", url: str = stack.url) -> Caller:
            headers = {"Authorization": f"Bearer {await new_key(tenant)}"}
            limits = httpx.Limits(max_connections=None)
            client = httpx.AsyncClient(base_url=url, headers=headers, timeout=60, limits=limits)
            return Caller(await clients.enter_async_context(client))

        yield make


@pytest.fixture
async def acme(callers: Callable[..., Awaitable[Caller]]) -> Caller:
    return await callers()


Accounts = Callable[..., Awaitable[tuple[int, list[UsageEvent]]]]


@pytest.fixture
def accounts(stack: StackFile) -> Accounts:
    """How many runs of a key ended, and its bills: from Kafka's own records, once there are `bills` of them."""

    async def read(key: str, bills: int = 1, tenant: str = "acme") -> tuple[int, list[UsageEvent]]:
        name = f"{tenant}:{key}"
        events: list[UsageEvent] = []

        async def billed() -> bool:
            events[:] = (await audit(stack.kafka)).usage[name].values()
            return len(events) >= bills

        await until(billed)
        runs = [record for record in await read_all(stack.kafka, "completions") if record.key == name.encode()]
        return len(runs), events

    return read


class TestFinished:
    async def test_the_same_status_and_bytes_again_and_nothing_billed(self, acme: Caller, accounts: Accounts) -> None:
        key = new_name()
        first = await acme.post(key)
        again = [await acme.post(key) for _ in range(3)]
        assert first.status_code == 200
        assert REPLAYED not in first.headers
        for answer in again:
            assert (answer.status_code, answer.content) == (200, first.content)
            assert answer.headers[REPLAYED] == "true"
        runs, bills = await accounts(key)
        assert (runs, len(bills)) == (1, 1)

    @pytest.mark.parametrize("streamed_first", [True, False])
    async def test_how_it_is_delivered_is_no_other_request(self, acme: Caller, streamed_first: bool) -> None:
        key = new_name()
        first = await acme.post(key, stream=streamed_first)
        again = await acme.post(key, stream=not streamed_first)
        assert text_of(first) == text_of(again)
        assert again.headers[REPLAYED] == "true"

    async def test_quoted_equals_bare(self, acme: Caller) -> None:
        key = new_name()
        first, again = await acme.post(f'"{key}"'), await acme.post(key)
        assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
        assert first.headers["idempotency-key"] == again.headers["idempotency-key"] == key

    async def test_key_order_and_white_space_are_no_other_request(self, acme: Caller) -> None:
        key = new_name()
        first = await acme.post(key, body(temperature=0.5))
        turned = dict(reversed((ASKED | {"temperature": 0.5}).items()))
        again = await acme.post(key, orjson.dumps(turned, option=orjson.OPT_INDENT_2) + b"\n")
        assert (again.content, again.headers[REPLAYED]) == (first.content, "true")

    async def test_a_models_error_is_replayed_and_costs_nothing(self, acme: Caller, accounts: Accounts) -> None:
        key = new_name()
        broken = ASKED | {"metadata": {"synthetic_fault": "error"}}
        first = await acme.post(key, orjson.dumps(broken))
        again = [await acme.post(key, orjson.dumps(broken | {"stream": stream})) for stream in (False, True)]
        assert first.status_code == 500
        assert first.json()["error"]["code"] == "engine_failed"
        for answer in again:
            assert (answer.status_code, answer.content, answer.headers[REPLAYED]) == (500, first.content, "true")
        runs, [bill] = await accounts(key)
        assert (runs, bill.outcome, bill.cost_nano) == (1, "failed", 0)

    async def test_overload_is_not_stored(self, acme: Caller, accounts: Accounts) -> None:
        key = new_name()
        overload = body(metadata={"synthetic_fault": "overload"})
        first, again = await acme.post(key, overload), await acme.post(key, overload)
        for answer in (first, again):
            assert answer.status_code == 503
            assert answer.json()["error"]["code"] == "engine_overloaded"
            assert REPLAYED not in answer.headers
        assert (await acme.post(key)).status_code == 200
        runs, bills = await accounts(key, bills=3)
        assert runs == 3
        assert [bill.outcome for bill in bills if bill.cost_nano] == ["succeeded"]


class TestAnotherRequestUnderTheKey:
    @pytest.mark.parametrize(
        ("other", "path"),
        [
            ({"temperature": 0.7}, CHAT),
            ({"model": "large"}, CHAT),
            ({"messages": [{"role": "user", "content": "Where is it?"}]}, CHAT),
            ({}, TEXT),
        ],
        ids=["temperature", "model", "body", "path"],
    )
    async def test_is_422(self, acme: Caller, accounts: Accounts, other: dict[str, Any], path: str) -> None:
        key, both = new_name(), {"prompt": "fits either path"}
        first = await acme.post(key, body(**both))
        refused = await acme.post(key, body(**both, **other), path=path)
        assert refused.status_code == 422
        assert refused.json()["error"]["code"] == "idempotency_key_reused"
        assert (await acme.post(key, body(**both))).content == first.content
        assert (await accounts(key))[0] == 1

    async def test_is_422_and_not_202(self, acme: Caller) -> None:
        headers = {"Idempotency-Key": new_name(), "Prefer": "respond-async"}
        asked = [body(), body(temperature=0.7), body()]
        posts = [await acme.http.post(CHAT, content=content, headers=headers) for content in asked]
        assert [answer.status_code for answer in posts] == [202, 422, 202]

    async def test_is_422_while_the_first_runs(self, acme: Caller) -> None:
        key, begun = new_name(), asyncio.Event()
        first = asyncio.create_task(acme.beginning(key, body(stream=True, max_tokens=150), begun))
        await begun.wait()
        assert (await acme.post(key, body(max_tokens=151))).status_code == 422
        assert not first.done()
        assert text_of(await first)


class TestInFlight:
    @pytest.mark.parametrize("streamed_first", [True, False])
    async def test_callers_attach_to_the_one_run(self, acme: Caller, accounts: Accounts, streamed_first: bool) -> None:
        key = new_name()
        asked = [body(stream=stream, max_tokens=150) for stream in (streamed_first, False, True, False, True)]
        first = asyncio.create_task(acme.post(key, asked[0]))
        await self._running(acme, key)
        others = await asyncio.gather(*(acme.post(key, again) for again in asked[1:]))
        answers = [await first, *others]
        assert len({text_of(answer) for answer in answers}) == 1
        assert len({answer.content for answer, again in zip(answers, asked, strict=True) if b"false" in again}) == 1
        assert not [answer for answer in answers if REPLAYED in answer.headers]
        runs, bills = await accounts(key)
        assert (runs, len(bills)) == (1, 1)

    async def test_fifty_at_once_over_three_processes(
        self, acme: Caller, callers: Any, accounts: Accounts, stack_settings: Settings
    ) -> None:
        key = new_name()
        async with AsyncExitStack() as processes:
            starts = [processes.enter_async_context(ingress_process(stack_settings)) for _ in range(2)]
            others = [await callers(url=url) for url, _ in await asyncio.gather(*starts)]
            asking = [acme, *others]
            answers = await asyncio.gather(*(asking[n % 3].post(key) for n in range(50)))
        assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
        runs, bills = await accounts(key)
        assert (runs, len(bills)) == (1, 1)

    async def test_a_lost_answer_is_there_for_the_retry(
        self, acme: Caller, accounts: Accounts, stack: StackFile
    ) -> None:
        """The request went out whole; its connection died before the first byte of the answer."""
        key = new_name()
        url = httpx.URL(stack.url)
        _, writer = await asyncio.open_connection(url.host, url.port)
        head = f"POST {CHAT} HTTP/1.1\r\nhost: {url.host}\r\nidempotency-key: {key}\r\n"
        head += f"authorization: {acme.http.headers['authorization']}\r\ncontent-length: {len(body(stream=False))}\r\n"
        writer.write(head.encode() + b"\r\n" + body(stream=False))
        await writer.drain()
        await self._running(acme, key)
        writer.transport.abort()
        assert (await acme.post(key)).status_code == 200
        runs, bills = await accounts(key)
        assert (runs, len(bills)) == (1, 1)

    async def _running(self, caller: Caller, key: str) -> None:
        async def known() -> bool:
            return (await caller.http.get(f"/v1/requests/{key}")).status_code == 200

        await until(known)


class TestKeys:
    @pytest.mark.parametrize(
        "lines",
        [
            [b""],
            [b'""'],
            [b"x" * 256],
            [b'"' + b"x" * 256 + b'"'],
            [b"with space"],
            [b"a\x01b"],
            [b"a\tb"],
            [b"a\x7fb"],
            ["é".encode()],
            [b"one", b"two"],
            [b"same", b"same"],
        ],
    )
    async def test_an_unfit_key_is_400(self, acme: Caller, stack: StackFile, lines: list[bytes]) -> None:
        """Written on the socket: no client library would send some of these."""
        url = httpx.URL(stack.url)
        reader, writer = await asyncio.open_connection(url.host, url.port)
        fields = [b"idempotency-key: " + line for line in lines]
        fields += [b"host: here", b"authorization: " + acme.http.headers["authorization"].encode()]
        fields += [b"content-length: " + str(len(body())).encode(), b"connection: close"]
        writer.write(b"POST " + CHAT.encode() + b" HTTP/1.1\r\n" + b"\r\n".join(fields) + b"\r\n\r\n" + body())
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 400 ")

    @pytest.mark.parametrize("key", ["x" * 219, "!#$%&'()*+,-./:;<=>?@[]^_`{|}~", "a:b"])
    async def test_every_visible_character_will_do(self, acme: Caller, key: str) -> None:
        key = new_name()[:36] + key
        first, again = await acme.post(key), await acme.post(key)
        assert (again.content, again.headers[REPLAYED]) == (first.content, "true")
        assert first.headers["idempotency-key"] == key

    async def test_tenants_never_meet(self, acme: Caller, callers: Any, accounts: Accounts) -> None:
        key = new_name()
        globex = await callers("globex")
        ours = await acme.post(key)
        assert (await globex.http.get(f"/v1/requests/{key}")).status_code == 404
        theirs = await globex.post(key, body(messages=[{"role": "user", "content": "another question"}]))
        assert theirs.status_code == 200
        assert REPLAYED not in theirs.headers
        assert text_of(theirs) != text_of(ours)
        assert (await acme.post(key)).content == ours.content
        assert [(await accounts(key, tenant=tenant))[0] for tenant in ("acme", "globex")] == [1, 1]

    @pytest.mark.parametrize(
        ("unfit", "status"),
        [
            (b"{", 400),
            (b'{"model": "small"}', 400),
            (body(temperature=3), 400),
            (body(model="gpt-unheard-of"), 404),
            (body(max_tokens=9_000_000), 400),
        ],
        ids=["json", "messages", "temperature", "model", "context"],
    )
    async def test_failed_validation_consumes_no_key(self, acme: Caller, unfit: bytes, status: int) -> None:
        key = new_name()
        assert (await acme.post(key, unfit)).status_code == status
        answer = await acme.post(key)
        assert answer.status_code == 200
        assert REPLAYED not in answer.headers

    async def test_auto_is_opt_in(self, acme: Caller, accounts: Accounts) -> None:
        mine = {"user": new_name()}
        first, again, other = [
            await acme.post("auto", body(**mine, **more)) for more in ({}, {"stream": True}, {"temperature": 0.5})
        ]
        assert text_of(again) == text_of(first)
        assert again.headers[REPLAYED] == "true"
        assert again.headers["idempotency-key"] == first.headers["idempotency-key"]
        assert other.headers["idempotency-key"] != first.headers["idempotency-key"]
        assert (await accounts(first.headers["idempotency-key"]))[0] == 1
        unnamed = [await acme.http.post(CHAT, content=body(**mine)) for _ in range(2)]
        assert len({answer.headers["idempotency-key"] for answer in unnamed}) == 2


class TestWindow:
    async def test_after_it_the_key_runs_again(self, acme: Caller, accounts: Accounts, stack: StackFile) -> None:
        """By the records' timestamps: this one is as old as the window, and a little younger in the other case."""
        now = time.time_ns() // 1_000_000
        runs = {}
        for age_ms in (WINDOW_HOURS * HOUR_MS + 1, (WINDOW_HOURS - 1) * HOUR_MS):
            key = new_name()
            await produce(stack, key, timestamp_ms=now - age_ms)
            await self._ended(stack, key)
            answer = await acme.post(key)
            assert answer.status_code == 200
            again = await acme.post(key)
            assert (again.content, again.headers[REPLAYED]) == (answer.content, "true")
            runs[age_ms] = (REPLAYED in answer.headers, (await accounts(key))[0])
        assert list(runs.values()) == [(False, 2), (True, 1)]

    async def test_it_is_published(self, acme: Caller) -> None:
        answers = [await acme.post(new_name()), await acme.post(new_name(), stream=True), await acme.post("k", b"{")]
        windows = {answer.headers["millrace-idempotency-window"] for answer in answers}
        assert windows == {str(WINDOW_HOURS * 3600)}
        page = (Path(__file__).parents[2] / "docs/idempotency.md").read_text()
        assert f"{WINDOW_HOURS} hours" in page
        assert "MILLRACE_IDEMPOTENCY_WINDOW_HOURS" in page

    async def _ended(self, stack: StackFile, key: str) -> None:
        async def known() -> bool:
            name = f"acme:{key}".encode()
            return any(record.key == name for record in await read_all(stack.kafka, "completions"))

        await until(known)


async def test_any_door_and_any_partitioner_is_one_run(acme: Caller, accounts: Accounts, stack: StackFile) -> None:
    """At once: records on every partition, right and wrong, and posts, streamed and not."""
    key = new_name()
    sends = [produce(stack, key, partition=number) for number in range(Settings().request_partitions)]
    posts = [acme.post(key, stream=stream) for stream in (False, True, False, True)]
    answers = [answer for answer in await asyncio.gather(*sends, *posts) if answer is not None]
    assert len(answers) == 4
    assert len({text_of(answer) for answer in answers}) == 1
    runs, bills = await accounts(key)
    assert (runs, len(bills)) == (1, 1)


async def produce(stack: StackFile, key: str, *, partition: int | None = None, timestamp_ms: int | None = None) -> None:
    async with AIOKafkaProducer(bootstrap_servers=stack.kafka, acks="all", enable_idempotence=True) as producer:
        name = f"acme:{key}".encode()
        await producer.send_and_wait("requests", body(), name, partition, timestamp_ms)
