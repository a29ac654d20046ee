"""A small OpenAI-compatible server for tests: real HTTP, and misbehaviour on request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from contracts.http_server import bind, serving

Script = Callable[["Upstream", dict[str, Any]], Awaitable[Response]]


class Upstream:
    """Answers each request by the next of its scripts, and by the last of them from then on."""

    def __init__(self) -> None:
        self.url = ""
        self.scripts: list[Script] = [speak("water", " turns", " the wheel")]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.clients: set[tuple[str, int]] = set()
        self.closed_early = asyncio.Event()

    async def handle(self, request: Request) -> Response:
        body = orjson.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        assert request.client is not None
        self.clients.add((request.client.host, request.client.port))
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        return await script(self, body)


def event(fields: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def delta(chat: bool, text: str | None = None, **more: Any) -> bytes:
    content = {"delta": {"content": text} | more} if chat else {"text": text}
    return event({"model": "upstream-1", "choices": [{"index": 0, "finish_reason": None} | content]})


def speak(*texts: str, usage: bool = True, pause: float = 0.0, ends: bool = True) -> Script:
    """An answer in these pieces; without `ends` the connection breaks after them."""

    async def script(upstream: Upstream, body: dict[str, Any]) -> Response:
        chat = "messages" in body

        async def stream() -> AsyncIterator[bytes]:
            try:
                if chat:
                    yield delta(chat, "", role="assistant")
                for text in texts:
                    yield b": a comment\n\n" + delta(chat, text)
                    await asyncio.sleep(pause)
                if not ends:
                    raise ConnectionAbortedError
                end: dict[str, Any] = {"delta": {}} if chat else {"text": ""}
                yield event({"model": "upstream-1", "choices": [{"index": 0, "finish_reason": "stop"} | end]})
                if usage:
                    counts = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
                    yield event({"choices": [], "usage": counts | {"prompt_tokens_details": {"cached_tokens": 4}}})
                yield b"data: [DONE]\n\n"
            except asyncio.CancelledError:
                upstream.closed_early.set()
                raise

        return StreamingResponse(stream(), media_type="text/event-stream")

    return script


def send(*events: bytes) -> Script:
    """These bytes as a stream, and `[DONE]`."""

    async def script(_upstream: Upstream, _body: dict[str, Any]) -> Response:
        return StreamingResponse(iter([*events, b"data: [DONE]\n\n"]), media_type="text/event-stream")

    return script


def refuse(status: int, message: str = "no", **headers: str) -> Script:
    async def script(_upstream: Upstream, _body: dict[str, Any]) -> Response:
        error = {"message": message, "type": "whatever", "code": None}
        return JSONResponse({"error": error}, status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return script


@asynccontextmanager
async def open_upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = Starlette(routes=[Route(path, upstream.handle, methods=["POST"]) for path in PATHS])
    async with serving(app, bind("127.0.0.1", 0, "UPSTREAM")) as server:
        upstream.url = f"http://127.0.0.1:{server.port}/v1"
        yield upstream


PATHS = ("/v1/chat/completions", "/v1/completions")
