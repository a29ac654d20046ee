"""Does one tenant at full speed slow another's admission? A quiet tenant's requests, alone and beside a loud one.

The loud one's callers send as fast as they are answered: once all within its limits, once all but a few beyond them.
The load generator and everything else share this machine's cores, so the total times say how busy it is; admission,
from the record on `requests` to the meter's taking it up, is what limits have to do with. Then, how soon changes hold.
"""

import asyncio
import time
from typing import Any

import aiohttp
import clickhouse_connect
import orjson

from bench.load import BODY, run_load
from bench.results import publish
from bench.running_stack import benchmark_stack
from contracts.limits import Selector
from contracts.settings import Settings
from millrace.keys import create_key
from millrace.limits import ask_usage, set_figures
from millrace.replay.report import percentile
from millrace.stack_file import StackFile

CALLERS = 8
QUIET_REQUESTS = 200
QUIET_PER_SECOND = 20
CHANGES = 20
_ADMISSION = (
    "SELECT quantileExact(0.5)(ms), quantileExact(0.99)(ms), count() FROM (SELECT "
    "toUnixTimestamp64Milli(admitted_at) - toUnixTimestamp64Milli(accepted_at) AS ms FROM usage "
    "WHERE tenant = 'quiet' AND feature = {feature:String})"
)


async def main() -> None:
    async with benchmark_stack() as stack:
        settings = Settings(kafka_bootstrap_servers=stack.kafka)
        quiet, loud = [(await create_key(settings, tenant)).secret for tenant in ("quiet", "loud")]
        await run_load(stack.url, loud, requests=500, concurrency=8, stream=False)  # warm-up
        rows = [await _beside(stack, quiet, None, "alone")]
        rows.append(await _beside(stack, quiet, loud, "let through"))
        await set_figures(settings, Selector("loud"), {"requests_per_minute": 1})
        rows.append(await _beside(stack, quiet, loud, "turned away"))
        changes = [await _change(settings, number) for number in range(1, CHANGES + 1)]
    change = {"changes": CHANGES, "p50 ms": percentile(changes, 0.5), "longest ms": max(changes)}
    await asyncio.to_thread(publish, "limits-change", "From `limits set` until the meter's answer says so", [change])
    await asyncio.to_thread(publish, "limits", "A quiet tenant beside a loud one, times in ms", rows)


async def _beside(stack: StackFile, quiet: str, loud: str | None, name: str) -> dict[str, Any]:
    stop = asyncio.Event()
    shouting = asyncio.create_task(_shout(stack.url, loud, stop)) if loud else None
    total = await _whisper(stack.url, quiet, name.replace(" ", "-"))
    stop.set()
    per_second = await shouting if shouting else 0.0
    p50, p99 = await _admission(stack, name.replace(" ", "-"))
    return {
        "the loud one is": name if loud else "silent",
        "its requests/s": per_second,
        "admission p50": p50,
        "admission p99": p99,
        "total p50": 1000 * percentile(total, 0.5),
        "total p99": 1000 * percentile(total, 0.99),
    }


async def _change(settings: Settings, figure: int) -> float:
    """Milliseconds; asking, again and again, takes most of them."""
    selector = Selector("quiet", user="ann")
    await set_figures(settings, selector, {"tokens_per_day": figure})
    started = time.perf_counter()
    while True:
        [account], _ = await ask_usage(settings, selector)
        measure = account.measures.get("tokens_per_day")
        if measure and measure.limit == figure:
            return 1000 * (time.perf_counter() - started)


async def _whisper(url: str, key: str, feature: str) -> list[float]:
    """At a steady rate, however long answers take. Seconds."""
    headers = _headers(key) | {"Millrace-Feature": feature}
    async with aiohttp.ClientSession(headers=headers) as session:
        asking = []
        for _ in range(QUIET_REQUESTS):
            asking.append(asyncio.create_task(_ask(session, url)))
            await asyncio.sleep(1 / QUIET_PER_SECOND)
        return list(await asyncio.gather(*asking))


async def _shout(url: str, key: str, stop: asyncio.Event) -> float:
    """Until it is told to stop. Requests per second."""
    started, count = time.perf_counter(), 0
    async with aiohttp.ClientSession(headers=_headers(key)) as session:

        async def caller() -> None:
            nonlocal count
            while not stop.is_set():
                await _ask(session, url)
                count += 1

        await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return count / (time.perf_counter() - started)


async def _ask(session: aiohttp.ClientSession, url: str) -> float:
    started = time.perf_counter()
    async with session.post(f"{url}/v1/chat/completions", data=orjson.dumps(BODY)) as response:
        await response.read()
    return time.perf_counter() - started


def _headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}


async def _admission(stack: StackFile, feature: str) -> tuple[float, float]:
    """Of the quiet tenant's requests, once the ledger has them all."""
    client = await asyncio.to_thread(clickhouse_connect.get_client, dsn=stack.query_url, database="millrace")
    async with asyncio.timeout(60):
        while True:
            result = await asyncio.to_thread(client.query, _ADMISSION, parameters={"feature": feature})
            [(p50, p99, count)] = result.result_rows
            if count >= QUIET_REQUESTS:
                return float(p50), float(p99)
            await asyncio.sleep(0.5)
