"""A steady load through all doors, from clients that don't give up; now and then two clients ask the same at once."""

import asyncio
import random
import time
from typing import Any

from contracts.settings import Settings
from millrace.keys import create_key
from millrace.replay.prompts import TENANTS, WORDS
from tests.chaos.answers import Ask, Door, Told
from tests.chaos.http_client import HttpClient
from tests.chaos.kafka_client import KafkaClient

PATIENCE_SECONDS = 120.0
_TWINS = 0.15  # share of requests that a second client asks as well


class Load:
    """`told` has one entry for each call, from the moment of asking. The same seed asks the same."""

    def __init__(self, urls: list[str], settings: Settings, per_second: float, seed: int) -> None:
        self.told: list[Told] = []
        self._urls = urls
        self._settings = settings
        self._per_second = per_second
        self._rng = random.Random(f"load {seed}")
        self._run = f"chaos-{seed}"
        self._kafka = KafkaClient(settings)
        self._http: HttpClient
        self._calls: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        secrets = {tenant: (await create_key(self._settings, tenant)).secret for tenant in TENANTS}
        self._http = HttpClient(self._urls, secrets)
        await self._kafka.start()
        self._asking = asyncio.create_task(self._ask_steadily())

    async def drain(self) -> None:
        """Asks nothing more; returns when every call has ended, at the latest when patience has."""
        await self._stop_asking()
        if self._calls:
            await asyncio.wait(self._calls)

    async def close(self) -> None:
        await self._stop_asking()
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self._http.close()
        await self._kafka.close()

    def late(self, limit_seconds: float) -> list[Told]:
        """Calls that wait for longer than that, now."""
        now = time.monotonic()
        return [told for told in self.told if not told.over and now - told.ask.asked_at > limit_seconds]

    async def _stop_asking(self) -> None:
        if self._asking:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
            self._asking = None

    async def _ask_steadily(self) -> None:
        for number in range(10_000_000):
            key = f"{self._rng.choice(TENANTS)}:{self._run}-{number:06d}"
            body, door = self._body(number), self._rng.choice(tuple(Door))
            self._begin(Ask(key, door, body, time.monotonic()))
            if self._rng.random() < _TWINS:
                self._begin(Ask(key, self._rng.choice(tuple(Door)), body, time.monotonic()))
            await asyncio.sleep(self._rng.expovariate(self._per_second))

    def _body(self, number: int) -> dict[str, Any]:
        words = " ".join(self._rng.choices(WORDS, k=20))
        return {
            "model": self._rng.choice(("small", "small", "auto", "large")),
            "messages": [{"role": "user", "content": f"{number}: {words}"}],
            "max_tokens": self._rng.randrange(10, 60),
        }

    def _begin(self, ask: Ask) -> None:
        call = asyncio.create_task(self._call(ask))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, ask: Ask) -> None:
        told = Told(ask)
        self.told.append(told)
        client = self._kafka if ask.door is Door.KAFKA else self._http
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                told.said = await client.ask(ask, told)
        except TimeoutError:
            told.trouble("gave up", failed=True)
        told.over = True
        if told.said is not None:
            told.answered_at = time.monotonic()
