"""A steady load through all doors, from clients that don't give up: who cancel, hang up, come back, go on with streams
that were cut, and run into limits. Now and then two clients ask the same at once."""

import asyncio
import random
import time
from collections.abc import Coroutine
from typing import Any

from contracts.settings import Settings
from millrace.keys import create_key
from millrace.replay.prompts import TENANTS
from tests.chaos.answers import Ask, Deletion, Door, Told
from tests.chaos.cascade import UNSURE
from tests.chaos.http_client import HttpClient
from tests.chaos.kafka_client import KafkaClient
from tests.chaos.limits import FRUGAL, NARROW, set_limits
from tests.chaos.plan import Planned, plan

PATIENCE_SECONDS = 120.0


class Load:
    """`told` has one entry for each call, from the moment of asking; `deletions` one for each DELETE that has ended.
    The same seed asks the same."""

    def __init__(self, urls: list[str], settings: Settings, per_second: float, seed: int) -> None:
        self.told: list[Told] = []
        self.deletions: list[Deletion] = []
        self._urls = urls
        self._settings = settings
        self._per_second = per_second
        self._plan = plan(seed)
        self._pace = random.Random(f"pace {seed}")
        self._kafka = KafkaClient(settings)
        self._http: HttpClient
        self._calls: set[asyncio.Task[None]] = set()
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        tenants = (*TENANTS, FRUGAL, NARROW, UNSURE)
        secrets = {tenant: (await create_key(self._settings, tenant)).secret for tenant in tenants}
        await set_limits(self._settings)
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
        """Calls that wait for longer than that, now, and shouldn't."""
        since = time.monotonic() - limit_seconds
        return [told for told in self.told if told.ask.timed and not told.over and told.asked_at < since]

    async def _stop_asking(self) -> None:
        if self._asking:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)
            self._asking = None

    async def _ask_steadily(self) -> None:
        for planned in self._plan:
            self._ask(planned)
            await asyncio.sleep(self._pace.expovariate(self._per_second))

    def _ask(self, planned: Planned) -> None:
        for ask in planned.asks:
            self._begin(self._call(ask))
        if planned.delete_after is not None:
            self._begin(self._delete(planned.asks[0].key, planned.delete_after))

    def _begin(self, doing: Coroutine[Any, Any, None]) -> None:
        call = asyncio.create_task(doing)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _delete(self, key: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self.deletions.append(await self._http.delete(key))

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
