"""Lets batches through while partitions are ours, and tells when the last one under way has ended."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class Gate:
    """Closed at first."""

    def __init__(self) -> None:
        self.is_open = False
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self) -> None:
        self.is_open = True

    def close(self) -> None:
        """Nothing new goes through; what is under way goes on."""
        self.is_open = False

    async def idle(self) -> None:
        """Nothing is under way."""
        await self._idle.wait()

    @contextmanager
    def passing(self) -> Iterator[None]:
        self._under_way += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
