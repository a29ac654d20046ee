"""`/v1/ws`: many requests over one connection, gone on with elsewhere, held back without harm to others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import aiohttp
import jsonschema
import orjson
import pytest

from contracts.envelope import RequestType
from contracts.errors import RateLimited
from contracts.outcomes import Outcome
from contracts.settings import Settings
from ingress.calls import MOST_HELD_BYTES
from ingress.frame import DELTA, RawFrame
from millrace.docgen.schemas import schema_documents
from tests.ingress.conftest import LIMITS
from tests.ingress.test_cancel import cancelled
from tests.support.frames import chat_answer, chat_chunk, chat_run, final_of, number
from tests.support.ingress import Api, memory_api
from tests.support.pipeline import Asked, failure
from tests.support.until import until

pytest.importorskip("websockets", reason="a new dependency: `make test` installs it")

PART_BYTES = 20_000
PARTS = 12 * MOST_HELD_BYTES // PART_BYTES
SAID = jsonschema.Draft202012Validator(schema_documents()["websocket-server-message"])


def body(content: str = "hello world") -> dict[str, Any]:
    return {"model": "small", "messages": [{"role": "user", "content": content}]}


def new_key() -> str:
    return f"ws-{uuid4()}"


class Client:
    """Sorts what the server says by ref."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.said: dict[str, list[dict[str, Any]]] = {}
        self._unread: list[dict[str, Any]] = []

    async def say(self, **message: Any) -> None:
        await self.socket.send_bytes(orjson.dumps(message)) if message.pop(
            "binary", False
        ) else await self.socket.send_str(orjson.dumps(message).decode())

    async def next(self) -> dict[str, Any]:
        """The next thing said, to whomever."""
        if not self._unread:
            async with asyncio.timeout(60):
                self._unread = [orjson.loads(line) for line in (await self.socket.receive_str()).splitlines()]
        message = self._unread.pop(0)
        SAID.validate(message)
        self.said.setdefault(message["ref"], []).append(message)
        return message

    async def end(self, ref: str) -> list[dict[str, Any]]:
        """All that was said to a ref."""
        while not (self.said.get(ref) and self.said[ref][-1]["type"] in ("done", "error", "state")):
            await self.next()
        return self.said[ref]

    async def text(self, ref: str) -> str:
        said = await self.end(ref)
        assert said[-1]["type"] == "done", said[-1]
        return text_of(said)


def text_of(said: list[dict[str, Any]]) -> str:
    deltas = [choice["delta"] for message in said if "chunk" in message for choice in message["chunk"]["choices"]]
    return "".join(delta.get("content") or "" for delta in deltas)


@contextlib.asynccontextmanager
async def connected(api: Api) -> AsyncIterator[Client]:
    headers = {"Authorization": f"Bearer {api.secret}"}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{api.url}/v1/ws", headers=headers, max_msg_size=0) as socket,
    ):
        yield Client(socket)


async def test_many_requests_over_one_connection(api: Api) -> None:
    async with connected(api) as client:
        for ref in range(30):
            await client.say(type="create", ref=str(ref), key=new_key(), body=body(f"question number {ref}"))
        for ref in range(30):
            assert await client.text(str(ref)) == f"question number {ref}"
            assert client.said[str(ref)][0]["type"] == "accepted"
            assert client.said[str(ref)][-1]["id"]


async def test_a_request_is_gone_on_with_over_another_connection_and_over_http(api: Api) -> None:
    run, key = chat_run("a", ["one ", "two ", "three"]), new_key()
    api.pipeline.scenario = lambda _: run[:3]
    async with connected(api) as client:
        await client.say(type="create", ref="a", key=key, body=body())
        while len([message for message in client.said.get("a", ()) if message["type"] == "chunk"]) < 3:
            await client.next()
    heard = client.said["a"]
    async with connected(api) as client:
        await client.say(type="follow", ref="b", key=key, after=heard[-1]["id"])
        await api.pipeline.seen(2)
        await api.pipeline.finish(f"acme:{key}".encode(), [*run[3:], final_of(run, chat_answer("one two three"))])
        assert text_of(heard) + await client.text("b") == "one two three"
        await client.say(type="follow", ref="c", key=key)
        assert await client.text("c") == "one two three"
    async with api.http() as http:
        answer = await http.get(f"/v1/requests/{key}/events", headers={"Last-Event-ID": heard[-1]["id"]})
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert len(api.pipeline.runs) == 1


async def test_a_request_is_cancelled_over_it(api: Api) -> None:
    run, key, ended = chat_run("a", ["one ", "two ", "three"]), new_key(), new_key()
    async with connected(api) as client:
        await client.say(type="create", ref="ended", key=ended, body=body())
        await client.end("ended")
        api.pipeline.scenario = lambda _: run[:3]
        await client.say(type="create", ref="a", key=key, body=body())
        while len([message for message in client.said.get("a", ()) if message["type"] == "chunk"]) < 3:
            await client.next()
        await client.say(type="cancel", ref="b", key=key)
        [told] = await client.end("b")
        assert (told["type"], told["state"]["id"]) == ("state", key)
        wish = api.pipeline.asked[-1]
        assert (wish.key, wish.envelope.ce_type) == (f"acme:{key}".encode(), RequestType.CANCEL)
        await api.pipeline.finish(wish.key, [cancelled("one two ", 3)])
        assert await client.text("a") == "one two "
        assert client.said["a"][-2]["chunk"]["choices"][0]["finish_reason"] == "cancelled"
        for ref, late, status in (("c", ended, 409), ("d", "never-asked", 404)):
            await client.say(type="cancel", ref=ref, key=late)
            assert [said["status"] for said in await client.end(ref)] == [status]


async def test_so_many_streams_and_no_more() -> None:
    async with memory_api(Settings(**LIMITS | {"ingress_ws_max_streams": 2})) as (api, _), connected(api) as client:
        api.pipeline.scenario = lambda _: []
        for ref in "abc":
            await client.say(type="create", ref=ref, key=new_key(), body=body())
        assert [said["status"] for said in await client.end("c")] == [429]
        await client.say(type="leave", ref="a")
        await client.say(type="create", ref="d", key=new_key(), body=body())
        while "d" not in client.said:
            await client.next()
        assert client.said["d"][0]["type"] == "accepted"


async def test_headers_keys_and_operations_are_those_of_http(api: Api) -> None:
    async with connected(api) as client:
        headers = {"Millrace-Feature": "search", "Millrace-User": "ann"}
        await client.say(type="create", ref="a", body=body(), headers=headers)
        await client.text("a")
        assert len(client.said["a"][0]["key"]) == 26
        await client.say(
            type="create", ref="b", key="auto", body={"model": "small", "prompt": "x"}, operation="text_completion"
        )
        await client.end("b")
        assert client.said["b"][0]["key"].startswith("auto-")
    asked = {str(asked.headers["operation"], "ascii"): asked.envelope for asked in api.pipeline.asked}
    assert (asked["chat"].feature, asked["chat"].user, asked["chat"].api_key_id) == ("search", "ann", "k1")


@pytest.mark.parametrize(
    ("message", "status", "code"),
    [
        ({"type": "create", "ref": "a", "body": {"model": "small"}}, 400, "invalid_request"),
        ({"type": "create", "ref": "a", "body": body() | {"model": "unheard-of"}}, 404, "model_not_found"),
        ({"type": "create", "ref": "a", "body": body(), "key": "a b"}, 400, "invalid_idempotency_key"),
        ({"type": "follow", "ref": "a", "key": "never-asked"}, 404, "request_not_found"),
        ({"type": "follow", "ref": "a", "key": "x", "after": "42"}, 400, "invalid_request"),
    ],
)
async def test_refusals_say_why(api: Api, message: dict[str, Any], status: int, code: str) -> None:
    async with connected(api) as client:
        await client.say(**message)
        [said] = await client.end("a")
        assert (said["type"], said["status"], said["error"]["code"]) == ("error", status, code)
        await client.say(type="create", ref="b", body=body())
        assert await client.text("b") == "hello world"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"type":"dance","ref":"a"}', '{"type":"create","ref":"a"}'])
async def test_what_cannot_be_understood_harms_nothing(api: Api, text: str) -> None:
    async with connected(api) as client:
        await client.socket.send_str(text)
        await client.socket.send_bytes(b"\xff")
        said = [await client.next() for _ in range(2)]
        assert [(one["ref"], one["status"]) for one in said] == [("", 400)] * 2
        await client.say(type="create", ref="a", body=body())
        assert await client.text("a") == "hello world"


async def test_a_limit_is_an_error_with_its_status(api: Api) -> None:
    api.pipeline.scenario = lambda _: [failure(RateLimited("Slow down."), Outcome.REJECTED)]
    async with connected(api) as client:
        await client.say(type="create", ref="a", body=body())
        assert (await client.end("a"))[-1]["status"] == 429


async def test_a_ref_in_use_is_refused_and_free_again_after_leave(api: Api) -> None:
    api.pipeline.scenario = lambda _: []
    async with connected(api) as client:
        await client.say(type="create", ref="a", key=new_key(), body=body())
        await client.next()
        await client.say(type="create", ref="a", key=new_key(), body=body())
        assert (await client.next())["error"]["param"] == "ref"
        await client.say(type="leave", ref="a")
        client.said.clear()
        await client.say(type="follow", ref="a", key="never-asked")
        assert (await client.end("a"))[-1]["status"] == 404


@pytest.mark.parametrize("leave", [True, False])
async def test_who_leaves_has_hung_up(leave: bool) -> None:
    async with memory_api(Settings(ingress_return_seconds=0.05)) as (api, _):
        api.pipeline.scenario = lambda _: []
        async with connected(api) as client:
            headers = {"Millrace-On-Disconnect": "drain"}
            await client.say(type="create", ref="a", key=new_key(), body=body(), headers=headers)
            await client.next()
            if leave:
                await client.say(type="leave", ref="a")
                await api.pipeline.seen(2)
        asked = await api.pipeline.seen(2)
    told = asked[1].envelope
    assert (told.ce_type, told.on_disconnect) == (RequestType.LEAVE, "drain")
    assert told.caller == asked[0].envelope.caller


async def test_no_key_no_connection(api: Api) -> None:
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(f"{api.url}/v1/ws", headers={"Authorization": "Bearer mr_wrong"})
    assert refused.value.status == 401


def flood(asked: Asked) -> list[RawFrame]:
    """Far more than the sockets and one caller's buffer hold together."""
    if asked.prompt != "flood":
        run = chat_run("a", [asked.prompt])
        return [*run, final_of(run, chat_answer(asked.prompt))]
    parts = ["x" * PART_BYTES] * PARTS
    chunks = [(chat_chunk({"role": "assistant", "content": ""}), 0)]
    chunks += [(chat_chunk({"content": part}), len(part)) for part in parts]
    run = number("flood", [*chunks, (chat_chunk({}, "stop"), 0)])
    return [*run, final_of(run, chat_answer("".join(parts)))]


async def test_who_reads_slowly_gets_all_and_delays_nobody() -> None:
    """And little is kept for it."""
    async with memory_api(Settings(**LIMITS)) as (api, gateway), connected(api) as slow, connected(api) as quick:
        api.pipeline.scenario = flood
        for ref in range(4):
            await slow.say(type="create", ref=str(ref), key=new_key(), body=body("flood"))
        await api.pipeline.seen(4)

        async def lags() -> bool:
            return any(call.lagging for call in gateway.calls)

        await until(lags)
        kept = [sum(len(frame.value) for frame in call._frames if frame.kind == DELTA) for call in gateway.calls]
        assert max(kept) <= MOST_HELD_BYTES + 2 * PART_BYTES
        for ref in range(20):
            await quick.say(type="create", ref=str(ref), key=new_key(), body=body("quick"))
            assert await quick.text(str(ref)) == "quick"
        for ref in range(4):
            assert len(await slow.text(str(ref))) == PARTS * PART_BYTES
