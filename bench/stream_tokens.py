"""Streamed tokens through one ingress process, per second of its CPU: Kafka record to server-sent event.

The process is stopped while its frames are written, and then works them off as fast as it can.
"""

import asyncio
import os
import signal
import time
from typing import Any

import psutil

from bench.bare_kafka import bare_kafka
from bench.fake_engine import FakeEngine, fake_engine
from bench.raw_client import open_streams
from bench.replicas import Replica, replicas
from bench.results import publish
from millrace.keys import create_key

STREAMS = int(os.environ.get("STREAMS", "200"))
FRAMES = int(os.environ.get("FRAMES", "1000"))  # of each stream


async def main() -> None:
    rows: list[dict[str, Any]] = []
    async with bare_kafka() as settings, fake_engine(settings) as engine:
        key = (await create_key(settings, "bench")).secret
        for tokens_per_frame in (1, 4):
            async with replicas(settings.kafka_bootstrap_servers, 1, ingress_wait_seconds="300") as [replica]:
                rows.append(await _measure(replica, engine, key, tokens_per_frame))
    publish("stream_tokens", f"Streamed tokens through one ingress process, {STREAMS} streams", rows)


async def _measure(replica: Replica, engine: FakeEngine, key: str, tokens_per_frame: int) -> dict[str, Any]:
    counter = await open_streams(replica.port, key, STREAMS)
    asked = await engine.asked(STREAMS)
    await engine.tokens(asked, 20)  # warm-up
    await counter.until(STREAMS * 20)
    os.kill(replica.pid, signal.SIGSTOP)
    await engine.tokens(asked, FRAMES, tokens_per_frame)
    process = psutil.Process(replica.pid)
    before, started = sum(process.cpu_times()[:2]), time.perf_counter()
    os.kill(replica.pid, signal.SIGCONT)
    await counter.until(STREAMS * (20 + FRAMES))
    seconds = time.perf_counter() - started
    cpu_seconds = sum(process.cpu_times()[:2]) - before
    tokens = STREAMS * FRAMES * tokens_per_frame
    await engine.end(asked)
    return {
        "tokens per frame": tokens_per_frame,
        "tokens": tokens,
        "CPU s": cpu_seconds,
        "tokens per CPU s": tokens / cpu_seconds,
        "frames per CPU s": tokens / tokens_per_frame / cpu_seconds,
        "tokens/s": tokens / seconds,
    }


if __name__ == "__main__":
    asyncio.run(main())
