"""Starting, and stopping without a failed call."""

import asyncio
import socket

import httpx
import pytest

from contracts.api_keys import ApiKey
from contracts.errors import StackError
from contracts.settings import Settings
from ingress import websocket
from ingress.service import run, serve
from millrace.ports import free_port
from tests.ingress.test_websocket import body, connected
from tests.support.frames import chat_answer, chat_run, final_of, hear
from tests.support.ingress import CHAT, DEADLINE_SECONDS, Api, add_key, chat, memory_gateway

GOING_AWAY = 1001


async def test_a_port_in_use_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"Port {port} on 127.0.0.1 is in use"):
            await run(Settings(ingress_port=port), stop=asyncio.Event())


async def test_an_address_of_another_machine_is_said_at_once() -> None:
    with pytest.raises(StackError, match=r"can't listen on 192\.0\.2\.1"):
        await run(Settings(ingress_host="192.0.2.1"), stop=asyncio.Event())


async def test_a_name_that_means_nothing_is_said_at_once() -> None:
    with pytest.raises(StackError, match=r"can't listen on nowhere\.invalid"):
        await run(Settings(ingress_host="nowhere.invalid"), stop=asyncio.Event())


async def test_it_waits_for_kafka_until_it_is_told_to_stop() -> None:
    stop = asyncio.Event()
    settings = Settings(ingress_port=free_port(), kafka_bootstrap_servers=f"127.0.0.1:{free_port()}")
    running = asyncio.create_task(run(settings, stop=stop))
    await asyncio.wait((running,), timeout=0.3)
    assert not running.done()
    stop.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await running


@pytest.mark.broker
async def test_a_missing_topic_is_said(bootstrap: str) -> None:
    settings = Settings(kafka_bootstrap_servers=bootstrap, topic_prefix="nothing-here-", ingress_port=free_port())
    with pytest.raises(StackError, match="Kafka has no topic nothing-here-requests"):
        await run(settings, stop=asyncio.Event())


class TestStop:
    async def test_calls_in_flight_are_answered(self) -> None:
        async with _Served(Settings()) as served:
            whole, streamed = served.post(chat(), "one"), served.post(chat(stream=True), "two")
            await served.api.pipeline.seen(2)
            served.stop.set()
            await served.refuses()
            answer_run = chat_run("a", ["hello ", "world"])
            end = final_of(answer_run, chat_answer("hello world"))
            await served.api.pipeline.finish(b"acme:one", [end])
            await served.api.pipeline.finish(b"acme:two", [*answer_run, end])
            assert (await whole).json()["choices"][0]["message"]["content"] == "hello world"
            assert hear((await streamed).content).text == "hello world"
            await served.ended()

    async def test_calls_that_last_too_long_are_told_their_key(self) -> None:
        async with _Served(Settings(ingress_drain_seconds=0.3)) as served:
            whole, streamed = served.post(chat(), "one"), served.post(chat(stream=True), "two")
            await served.api.pipeline.seen(2)
            await served.api.pipeline.finish(b"acme:two", chat_run("a", ["hello ", "world"])[:2])
            served.stop.set()
            answer, heard = await whole, hear((await streamed).content)
            assert (answer.status_code, answer.headers["location"]) == (504, "/v1/requests/one")
            assert heard.text == "hello "
            assert heard.error is not None
            assert "/v1/requests/two" in heard.error["message"]
            await served.ended()

    @pytest.mark.parametrize("begun", [True, False])
    async def test_what_goes_on_over_a_websocket_is_answered(
        self, begun: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when its client had just connected. It hasn't hung up, so nobody is told that."""
        monkeypatch.setattr(websocket, "_FIRST_WORD_SECONDS", DEADLINE_SECONDS)
        asking = {"type": "create", "ref": "a", "key": "one", "body": body()}
        async with _Served(Settings(ingress_return_seconds=0)) as served, connected(served.api) as busy:
            if begun:
                await busy.say(**asking)
                await served.api.pipeline.seen(1)
            served.stop.set()
            await served.refuses()
            if not begun:
                await busy.say(**asking)
                await served.api.pipeline.seen(1)
            run = chat_run("a", ["hello ", "world"])
            await served.api.pipeline.finish(b"acme:one", [*run, final_of(run, chat_answer("hello world"))])
            assert await busy.text("a") == "hello world"
            assert (await busy.socket.receive()).data == GOING_AWAY
            await served.ended()
        assert len(served.api.pipeline.asked) == 1

    async def test_what_lasts_too_long_over_a_websocket_is_told_to_go_on_elsewhere(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(websocket, "_FIRST_WORD_SECONDS", 0.01)
        settings = Settings(ingress_drain_seconds=0.3, ingress_return_seconds=0)
        async with _Served(settings) as served, connected(served.api) as busy, connected(served.api) as idle:
            await busy.say(type="create", ref="a", key="one", body=body())
            await served.api.pipeline.seen(1)
            served.stop.set()
            assert (await idle.socket.receive()).data == GOING_AWAY
            assert (await busy.end("a"))[-1]["error"]["code"] == "still_running"
            assert (await busy.socket.receive()).data == GOING_AWAY
            await served.ended()
        assert len(served.api.pipeline.asked) == 1

    async def test_what_fails_in_the_background_ends_it(self) -> None:
        async with _Served(Settings()) as served:
            served.background.set_exception(StackError("Kafka's client can't go on."))
            with pytest.raises(StackError, match="can't go on"):
                await served.ended()


class _Served:
    """An ingress in memory whose end the test decides."""

    def __init__(self, settings: Settings) -> None:
        self.stop = asyncio.Event()
        self.background: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._gateway, pipeline = memory_gateway(settings)
        pipeline.scenario = lambda _: []
        self._listener = socket.create_server(("127.0.0.1", 0))
        secret = add_key(self._gateway, ApiKey(id="k1", tenant="acme", created_at=0))
        self.api = Api(f"http://127.0.0.1:{self._listener.getsockname()[1]}", secret, pipeline)
        self._client = self.api.http()

    async def __aenter__(self) -> "_Served":
        self._serving = asyncio.create_task(serve(self._gateway, self._listener, self.stop, self.background))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop.set()
        await asyncio.wait((self._serving,))
        await self._client.aclose()
        self._listener.close()

    def post(self, body: bytes, key: str) -> "asyncio.Task[httpx.Response]":
        return asyncio.create_task(self._client.post(CHAT, content=body, headers={"Idempotency-Key": key}))

    async def refuses(self) -> None:
        """Returns when new connections are refused."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while True:
                try:
                    async with self.api.http() as client:
                        await client.get("/healthz")
                except httpx.ConnectError:
                    return
                except httpx.TransportError:
                    continue  # it was connected just before the door was shut
                await asyncio.sleep(0.02)

    async def ended(self) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self._serving
