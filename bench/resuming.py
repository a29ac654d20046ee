"""A client whose stream is cut again and again, and that goes on with it wherever an ingress answers."""

import asyncio
from dataclasses import dataclass, field
from random import Random

import aiohttp
import orjson

_RETRY_SECONDS = 0.1
_PATIENCE_SECONDS = 90.0


@dataclass(slots=True)
class Heard:
    """All that a client has, over all its connections."""

    text: str = ""
    ids: list[str] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    roles: int = 0
    done: bool = False
    error: str = ""
    connections: int = 0
    replicas: set[str] = field(default_factory=set)
    gap_seconds: float = 0.0  # the longest from a cut to the next event

    def take(self, event: bytes) -> None:
        """One server-sent event."""
        for line in event.split(b"\n"):
            name, _, value = line.partition(b": ")
            if name == b"id":
                self.ids.append(value.decode())
            elif name == b"data" and value == b"[DONE]":
                self.done = True
            elif name == b"data":
                self._chunk(value)

    def _chunk(self, data: bytes) -> None:
        chunk = orjson.loads(data)
        if "error" in chunk:
            self.error = chunk["error"]["code"]
            return
        for choice in chunk["choices"]:
            delta = choice.get("delta", {})
            self.text += delta.get("content") or ""
            self.roles += "role" in delta
            if choice["finish_reason"]:
                self.finish_reasons.append(choice["finish_reason"])


@dataclass(slots=True)
class ResumingClient:
    """`urls` are the replicas; which one is asked next, and after how many bytes it is left, the dice say."""

    session: aiohttp.ClientSession
    urls: list[str]
    random: Random
    most_bytes: int  # of one connection that is cut

    async def stream(self, key: str, body: bytes, cuts: int) -> Heard:
        """Until the stream's end or its error; TimeoutError after 90 s."""
        heard = Heard()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not (heard.done or heard.error):
                left = self.random.randint(1, self.most_bytes) if heard.connections < cuts else None
                try:
                    await self._connection(heard, key, body, left)
                except (aiohttp.ClientError, ConnectionError):
                    await asyncio.sleep(_RETRY_SECONDS)
        return heard

    async def _connection(self, heard: Heard, key: str, body: bytes, left: int | None) -> None:
        """Every second one follows by GET; both ways are the same stream."""
        url = self.random.choice(self.urls)
        headers = {"Idempotency-Key": key} | ({"Last-Event-ID": heard.ids[-1]} if heard.ids else {})
        started = asyncio.get_running_loop().time()
        if heard.ids and heard.connections % 2:
            asking = self.session.get(f"{url}/v1/requests/{key}/events", headers=headers)
        else:
            asking = self.session.post(f"{url}/v1/chat/completions", data=body, headers=headers)
        async with asking as response:
            response.raise_for_status()
            heard.connections += 1
            heard.replicas.add(url)
            await self._read(heard, response, left, started)

    async def _read(self, heard: Heard, response: aiohttp.ClientResponse, left: int | None, started: float) -> None:
        """Half an event at the cut counts for nothing, as in every reader of server-sent events."""
        unread = b""
        again = bool(heard.ids)
        async for data in response.content.iter_any():
            unread += data if left is None else data[:left]
            *events, unread = unread.split(b"\n\n")
            for event in events:
                heard.take(event)
            if again and events:
                heard.gap_seconds = max(heard.gap_seconds, asyncio.get_running_loop().time() - started)
                again = False
            if left is not None and (left := left - len(data)) <= 0:
                response.close()
                return
