"""A closed-loop load over HTTP: so many callers, each sending its next request when the last one is answered."""

import asyncio
import time
from dataclasses import dataclass, field

import aiohttp
import orjson

BODY = {
    "model": "small",
    "messages": [{"role": "user", "content": "Where is my order? It should have been here on Monday. " * 4}],
    "max_tokens": 16,
}


@dataclass(slots=True)
class Load:
    """What the callers saw; times in seconds."""

    seconds: float = 0.0
    total: list[float] = field(default_factory=list)
    ttft: list[float] = field(default_factory=list)
    failed: int = 0

    @property
    def answered(self) -> int:
        return len(self.total)


async def run_load(url: str, api_key: str, *, requests: int, concurrency: int, stream: bool) -> Load:
    """`requests` requests over `concurrency` callers, each with a key of its own."""
    load = Load()
    body = orjson.dumps(BODY | {"stream": stream})
    headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
    todo = iter(range(requests))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:
        started = time.perf_counter()
        await asyncio.gather(
            *(_caller(session, f"{url}/v1/chat/completions", body, todo, load) for _ in range(concurrency))
        )
        load.seconds = time.perf_counter() - started
    return load


async def _caller(session: aiohttp.ClientSession, url: str, body: bytes, todo: object, load: Load) -> None:
    for _ in todo:  # type: ignore[attr-defined]
        started = time.perf_counter()
        async with session.post(url, data=body) as response:
            first = await response.content.readany()
            load.ttft.append(time.perf_counter() - started)
            rest = await response.read()
        ok = response.status == 200 and (b'"usage"' in first + rest or (first + rest).endswith(b"data: [DONE]\n\n"))
        if ok:
            load.total.append(time.perf_counter() - started)
        else:
            load.failed += 1
