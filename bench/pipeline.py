"""Millrace's own cost per request: an engine that takes no time, one to many callers, CPU by process."""

import asyncio
import sys
from typing import Any

import httpx

from bench.load import Load, run_load
from bench.processes import cpu_seconds, rss_mib
from bench.results import publish
from bench.running_stack import benchmark_stack, pids
from contracts.settings import Settings
from millrace.keys import create_key
from millrace.ports import free_port
from millrace.replay.report import percentile
from millrace.stack_file import StackFile

REQUESTS = {1: 300, 16: 3000, 64: 6000}
SETTLE_SECONDS = 2.5  # the sink's block and the commits of the last requests belong to them


async def main() -> None:
    rows: list[dict[str, Any]] = []
    async with benchmark_stack() as stack:
        settings = Settings(kafka_bootstrap_servers=stack.kafka)
        key = (await create_key(settings, "bench")).secret
        await run_load(stack.url, key, requests=500, concurrency=8, stream=False)  # warm-up
        for stream in (False, True):
            for concurrency, requests in REQUESTS.items():
                rows.append(await _measure(stack, key, requests=requests, concurrency=concurrency, stream=stream))
        memory = rss_mib(pids(stack))
    rows.append(await _mock())
    publish("pipeline", "Per request: time as the caller sees it, CPU milliseconds by process", rows)
    publish("memory", "Resident memory after the load, MiB", [{name: round(mib) for name, mib in memory.items()}])


async def _measure(stack: StackFile, key: str, *, requests: int, concurrency: int, stream: bool) -> dict[str, Any]:
    processes = pids(stack)
    before = cpu_seconds(processes)
    load = await run_load(stack.url, key, requests=requests, concurrency=concurrency, stream=stream)
    await asyncio.sleep(SETTLE_SECONDS)
    after = cpu_seconds(processes)
    spent = {name: 1000 * (after[name] - before[name]) / requests for name in processes}
    return _row("streamed" if stream else "whole", concurrency, load) | spent | {"all": sum(spent.values())}


def _row(kind: str, concurrency: int, load: Load) -> dict[str, Any]:
    return {
        "answers": kind,
        "callers": concurrency,
        "requests/s": load.answered / load.seconds,
        "failed": load.failed,
        "TTFT p50 ms": 1000 * percentile(load.ttft, 0.5),
        "TTFT p99 ms": 1000 * percentile(load.ttft, 0.99),
        "total p50 ms": 1000 * percentile(load.total, 0.5),
        "total p99 ms": 1000 * percentile(load.total, 0.99),
    }


async def _mock() -> dict[str, Any]:
    """The same load on a server that only parses and answers: the yardstick of this machine, in this run."""
    port = free_port()
    server = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.mock", str(port))
    try:
        url = f"http://127.0.0.1:{port}"
        await _until_ready(url)
        await run_load(url, "none", requests=500, concurrency=8, stream=False)
        processes = {"ingress": [server.pid]}
        before = cpu_seconds(processes)
        load = await run_load(url, "none", requests=REQUESTS[16], concurrency=16, stream=False)
        spent = 1000 * (cpu_seconds(processes)["ingress"] - before["ingress"]) / REQUESTS[16]
    finally:
        server.terminate()
        await server.wait()
    nothing = dict.fromkeys(("kafka", "streams", "worker", "analytics"), 0.0)
    return _row("bare mock", 16, load) | {"kafka": 0.0, "ingress": spent} | nothing | {"all": spent}


async def _until_ready(url: str) -> None:
    async with httpx.AsyncClient(base_url=url) as http:
        for _ in range(200):
            try:
                await http.get("/readyz")
            except httpx.TransportError:
                await asyncio.sleep(0.05)
            else:
                return
    sys.exit("The mock did not start.")
