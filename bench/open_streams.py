"""10,000 streams held open by one ingress process, each with a token now and then: memory, CPU, and that all live."""

import asyncio
import os
import resource
from typing import Any

import psutil

from bench.bare_kafka import bare_kafka
from bench.fake_engine import Asked, FakeEngine, fake_engine
from bench.raw_client import Counter, open_streams
from bench.replicas import Replica, replicas
from bench.results import publish
from millrace.keys import create_key

STREAMS = int(os.environ.get("STREAMS", "10000"))
SECONDS = float(os.environ.get("SECONDS", "60"))
HEARTBEAT_SECONDS = 15
TOKEN_EVERY_SECONDS = 20  # for each stream
_ROUND = 500  # streams opened at once


async def main() -> None:
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    async with bare_kafka() as settings, fake_engine(settings) as engine:
        key = (await create_key(settings, "bench")).secret
        patience = {
            "ingress_wait_seconds": "600",
            "ingress_heartbeat_seconds": str(HEARTBEAT_SECONDS),
            "ingress_publish_timeout_ms": "30000",  # the machine may be busy: that isn't what is measured
        }
        async with replicas(settings.kafka_bootstrap_servers, 1, **patience) as [replica]:
            row = await _measure(replica, engine, key)
    publish("open_streams", f"{STREAMS:,} open streams on one ingress process, a token each every 20 s", [row])


async def _measure(replica: Replica, engine: FakeEngine, key: str) -> dict[str, Any]:
    process = psutil.Process(replica.pid)
    few, asked = await _open(replica, engine, key, 100)  # what the first streams load isn't theirs
    empty = process.memory_info().rss
    counters = [few]
    for start in range(100, STREAMS, _ROUND):
        counter, more = await _open(replica, engine, key, min(_ROUND, STREAMS - start))
        counters.append(counter)
        asked += more
    full = process.memory_info().rss
    idle = await _cpu_share(process, asked, None)
    busy = await _cpu_share(process, asked, engine)
    await engine.end(asked)
    async with asyncio.timeout(120):
        while sum(counter.done for counter in counters) < STREAMS:  # noqa: ASYNC110 - there are many counters
            await asyncio.sleep(0.1)
    return {
        "streams": STREAMS,
        "memory before MiB": empty / 2**20,
        "after MiB": full / 2**20,
        "KiB a stream": (full - empty) / (STREAMS - 100) / 1024,
        "CPU % with heartbeats only": 100 * idle,
        "CPU % with tokens too": 100 * busy,
        "heartbeats": sum(counter.heartbeats for counter in counters),
        "ended well": sum(counter.done for counter in counters),
        "lost": sum(counter.closed - counter.done for counter in counters if counter.closed > counter.done),
    }


async def _open(replica: Replica, engine: FakeEngine, key: str, count: int) -> tuple[Counter, list[Asked]]:
    """Open and begun: each has its first token."""
    counter = await open_streams(replica.port, key, count)
    asked = await engine.asked(count)
    await engine.tokens(asked, 1)
    async with asyncio.timeout(120):
        await counter.until(count)
    return counter, asked


async def _cpu_share(process: psutil.Process, asked: list[Asked], engine: FakeEngine | None) -> float:
    """Of one core, over the measured seconds; with an engine, each stream gets tokens meanwhile."""
    clock = asyncio.get_running_loop().time
    started, before = clock(), sum(process.cpu_times()[:2])
    sent = 0
    while (passed := clock() - started) < SECONDS:
        due = int(passed / TOKEN_EVERY_SECONDS * len(asked)) if engine else 0
        if engine and due > sent:
            await engine.tokens([asked[number % len(asked)] for number in range(sent, due)], 1)
            sent = due
        await asyncio.sleep(0.1)
    return (sum(process.cpu_times()[:2]) - before) / (clock() - started)


if __name__ == "__main__":
    asyncio.run(main())
