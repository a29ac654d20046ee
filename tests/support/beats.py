"""The workers' beats, as a test waits for them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

from contracts.compacted import Follower
from contracts.outlook import Outlook
from contracts.settings import Settings
from contracts.topics import Topics

DEADLINE_SECONDS = 60.0


class Beats:
    def __init__(self) -> None:
        self.outlook = Outlook()
        self._news = asyncio.Event()

    def apply(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> None:
        self.outlook.apply(records)
        self._news.set()

    async def until(self, check: Callable[[Outlook], bool]) -> Outlook:
        """Asked at each beat. Raises TimeoutError past the deadline."""
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not check(self.outlook):
                self._news.clear()
                await self._news.wait()
        return self.outlook


@asynccontextmanager
async def beats_of(settings: Settings) -> AsyncIterator[Beats]:
    beats = Beats()
    async with Follower(settings, Topics.of(settings).workers, beats.apply):
        yield beats
