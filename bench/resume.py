"""1,000 streams, each cut at random points and gone on with on a random replica, while replicas are killed -9.

Each must be the unbroken stream: its text the stored answer's, to the byte, one role, one end, no id twice.
"""

import asyncio
import os
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp
import orjson

from bench.replicas import Replica, replicas
from bench.results import publish
from bench.resuming import Heard, ResumingClient
from bench.running_stack import benchmark_stack
from contracts.settings import Settings
from millrace.keys import create_key
from millrace.replay.report import percentile

STREAMS = int(os.environ.get("STREAMS", "1000"))
AT_ONCE = int(os.environ.get("AT_ONCE", "50"))
REPLICAS = 3
KILL_EVERY_SECONDS = 5.0
CUTS = 3  # at the most; a kill is one more
ROUTES = "contracts/routes.toml"  # a model that takes its time: streams of one to four seconds


@dataclass(slots=True)
class Cut:
    heard: Heard
    stored: dict[str, Any]

    @property
    def identical(self) -> bool:
        choice = self.stored["response"]["choices"][0]
        heard = self.heard
        return (heard.text, heard.finish_reasons, heard.roles, heard.done) == (
            choice["message"]["content"],
            [choice["finish_reason"]],
            1,
            True,
        ) and len(set(heard.ids)) == len(heard.ids)


async def main() -> None:
    async with benchmark_stack(routes_file=ROUTES) as stack, replicas(stack.kafka, REPLICAS) as started:
        key = (await create_key(Settings(kafka_bootstrap_servers=stack.kafka), "bench")).secret
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
            await _known(session, [*(replica.url for replica in started)])
            kills: list[int] = []
            killing = asyncio.create_task(_kill(started, kills))
            try:
                cut = await _all(session, [replica.url for replica in started])
            finally:
                killing.cancel()
                await asyncio.wait({killing})
    publish("resume", f"{STREAMS} streams cut at random, {AT_ONCE} at once", [_row(cut, len(kills))])


async def _known(session: aiohttp.ClientSession, urls: list[str]) -> None:
    """Every replica has heard of the API key."""
    async with asyncio.timeout(30):
        for url in urls:
            while (await session.get(f"{url}/v1/models")).status != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


async def _kill(started: list[Replica], kills: list[int]) -> None:
    random = Random(7)
    while True:
        await asyncio.sleep(KILL_EVERY_SECONDS)
        victim = random.choice(started)
        kills.append(victim.pid)
        await victim.kill()
        await victim.start()


async def _all(session: aiohttp.ClientSession, urls: list[str]) -> list[Cut]:
    numbers = iter(range(STREAMS))
    cut: list[Cut] = []

    async def caller() -> None:
        cut.extend([await _one(session, urls, number) for number in numbers])

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return cut


async def _one(session: aiohttp.ClientSession, urls: list[str], number: int) -> Cut:
    random = Random(number)
    client = ResumingClient(session, urls, random, most_bytes=8_000)
    question = f"Stream number {number}: where is my order?"
    body = orjson.dumps(
        {
            "model": "small",
            "stream": True,
            "max_tokens": random.randint(20, 250),
            "messages": [{"role": "user", "content": question}],
        }
    )
    key = f"cut-{number}"
    heard = await client.stream(key, body, random.randint(1, CUTS))
    return Cut(heard, await _stored(session, urls, key))


async def _stored(session: aiohttp.ClientSession, urls: list[str], key: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            for url in urls:
                try:
                    async with session.get(f"{url}/v1/requests/{key}") as response:
                        state: dict[str, Any] = orjson.loads(await response.read())
                        if state.get("response"):
                            return state
                except (aiohttp.ClientError, ConnectionError):
                    await asyncio.sleep(0.1)


def _row(cut: list[Cut], kills: int) -> dict[str, Any]:
    gaps = [one.heard.gap_seconds * 1000 for one in cut if one.heard.gap_seconds]
    connections = sum(one.heard.connections for one in cut)
    return {
        "streams": len(cut),
        "identical": sum(one.identical for one in cut),
        "errors": sum(bool(one.heard.error) for one in cut),
        "connections": connections,
        "on two replicas or more": sum(len(one.heard.replicas) > 1 for one in cut),
        "replicas killed": kills,
        "next event after p50 ms": percentile(gaps, 0.5),
        "p99 ms": percentile(gaps, 0.99),
    }


if __name__ == "__main__":
    asyncio.run(main())
