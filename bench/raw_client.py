"""Streaming clients that cost almost nothing: a socket each, and a count of what came."""

import asyncio
import sys
from dataclasses import dataclass, field
from typing import Any

import orjson

_WAVE = 200  # connections opened at once


@dataclass(slots=True)
class Counter:
    """Over all clients."""

    events: int = 0
    heartbeats: int = 0
    begun: int = 0
    done: int = 0
    closed: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, events: int) -> None:
        while self.events < events:
            self.news.clear()
            await self.news.wait()


class _Client(asyncio.Protocol):
    def __init__(self, counter: Counter, request: bytes) -> None:
        self._counter = counter
        self._request = request
        self._begun = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        counter = self._counter
        if not self._begun:
            self._begun = True
            counter.begun += 1
            if not data.startswith(b"HTTP/1.1 200 "):
                sys.exit(f"A stream was refused: {data.decode(errors='replace')}")
        counter.events += data.count(b"\ndata: ")
        counter.done += data.count(b"data: [DONE]")
        counter.heartbeats += data.count(b"\n:\n") + data.startswith(b":\n")
        counter.news.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._counter.closed += 1
        self._counter.news.set()


async def open_streams(port: int, api_key: str, count: int, **headers: str) -> Counter:
    """Each posts one streamed request; returns when all have been sent."""
    counter = Counter()
    loop = asyncio.get_running_loop()
    request = _request(api_key, headers)
    for start in range(0, count, _WAVE):
        wave = range(start, min(start + _WAVE, count))
        await asyncio.gather(
            *(loop.create_connection(lambda: _Client(counter, request), "127.0.0.1", port) for _ in wave)
        )
    return counter


def _request(api_key: str, headers: dict[str, str]) -> bytes:
    body: dict[str, Any] = {"model": "small", "stream": True, "messages": [{"role": "user", "content": "Where is it?"}]}
    content = orjson.dumps(body)
    fields = {"Host": "127.0.0.1", "Authorization": f"Bearer {api_key}", "Content-Length": str(len(content))} | headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + content
