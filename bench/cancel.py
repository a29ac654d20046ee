"""From a DELETE to the abort at the engine, with other streams running beside it; and to the DELETE's own answer.

A GET of the same request just before tells what the machine makes of one question to the log.
"""

import asyncio
import os
import time
from collections.abc import Awaitable
from importlib.resources import files
from statistics import quantiles
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaConsumer

from bench.results import publish
from bench.running_stack import benchmark_stack
from contracts.completion import Completion
from contracts.settings import Settings
from millrace.keys import create_key
from millrace.stack_file import StackFile

REQUESTS = int(os.environ.get("REQUESTS", "200"))
BESIDE = [0, 32]  # streams that run on meanwhile
PER_SECOND = 10
ROUTES = files("contracts") / "routes.toml"  # the shipped models' timings
LONG = 20_000  # tokens: minutes


async def main() -> None:
    async with benchmark_stack(routes_file=str(ROUTES)) as stack:
        key = (await create_key(Settings(kafka_bootstrap_servers=stack.kafka), "bench")).secret
        headers = {"Authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=stack.url, headers=headers, timeout=60, limits=limits) as http:
            rows = [await _measure(stack, http, beside) for beside in BESIDE]
    publish("cancel", f"{REQUESTS} DELETEs of running streams, {PER_SECOND} a second", rows)


async def _measure(stack: StackFile, http: httpx.AsyncClient, beside: int) -> dict[str, Any]:
    others = [f"beside-{beside}-{number}" for number in range(beside)]
    await asyncio.gather(*(_run(http, name) for name in others))
    names = [f"cancel-{beside}-{number}" for number in range(REQUESTS)]
    done = asyncio.create_task(_finished_at(stack, set(names)))
    sent, asked, answered = {}, [], []
    for name in names:
        await _run(http, name)
        await asyncio.sleep(1 / PER_SECOND)
        asked.append(await _timed(http.get(f"/v1/requests/{name}"), "in_progress"))
        sent[name] = time.time_ns() // 1_000_000
        answered.append(await _timed(http.delete(f"/v1/requests/{name}"), "cancelled"))
    finished = await done
    aborted = [float(finished[name] - sent[name]) for name in names]
    await asyncio.gather(*(http.delete(f"/v1/requests/{name}") for name in others))
    told = {"a GET": asked, "DELETE to abort": aborted, "DELETE to answer": answered}
    return {"beside": beside} | {name: value for what, times in told.items() for name, value in _row(what, times)}


def _row(what: str, milliseconds: list[float]) -> list[tuple[str, float]]:
    cuts = quantiles(milliseconds, n=100)
    return [(f"{what}, p50 ms", cuts[49]), (f"{what}, p99 ms", cuts[98])]


async def _timed(asking: Awaitable[httpx.Response], status: str) -> float:
    """Milliseconds."""
    began = time.perf_counter()
    answer = await asking
    assert answer.json().get("status") == status, answer.text
    return (time.perf_counter() - began) * 1000


async def _run(http: httpx.AsyncClient, name: str) -> None:
    """Returns when it runs: its first token is there."""
    body = {"model": "small", "messages": [{"role": "user", "content": name}], "max_tokens": LONG, "stream": True}
    headers = {"Idempotency-Key": name, "Millrace-On-Disconnect": "detach"}
    async with http.stream("POST", "/v1/chat/completions", content=orjson.dumps(body), headers=headers) as answer:
        assert answer.status_code == httpx.codes.OK
        async for line in answer.aiter_lines():
            if '"content":"' in line:
                return


async def _finished_at(stack: StackFile, names: set[str]) -> dict[str, int]:
    """When the worker ended each, UTC ms."""
    found: dict[str, int] = {}
    async with AIOKafkaConsumer("completions", bootstrap_servers=stack.kafka, auto_offset_reset="earliest") as consumer:
        async for record in consumer:
            name = record.key.decode().partition(":")[2]
            if name in names:
                found[name] = Completion.from_headers(record.headers).finished_at
            if len(found) == len(names):
                break
    return found


if __name__ == "__main__":
    asyncio.run(main())
