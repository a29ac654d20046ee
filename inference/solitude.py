"""One request alone in the process, whichever model it is for: when that dies, there is nobody else to blame."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


class Solitude:
    """Shared by all consumers of a process. While somebody wants to be alone nothing else starts."""

    def __init__(self) -> None:
        self._wanted = 0
        self._running = 0
        self._turn = asyncio.Lock()
        self._quiet = asyncio.Event()
        self._over = asyncio.Event()
        self._wake: list[Callable[[], None]] = []

    @property
    def wanted(self) -> bool:
        return self._wanted > 0

    def on_over(self, wake: Callable[[], None]) -> None:
        """Called whenever others may start again."""
        self._wake.append(wake)

    async def enter(self) -> None:
        """Before running beside others."""
        while self._wanted:
            await self._over.wait()
        self._running += 1

    def leave(self) -> None:
        self._running -= 1
        if not self._running:
            self._quiet.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Waits until what runs has ended, and for those who want the same."""
        self._wanted += 1
        self._over.clear()
        try:
            async with self._turn:
                while self._running:
                    self._quiet.clear()
                    await self._quiet.wait()
                yield
        finally:
            self._wanted -= 1
            if not self._wanted:
                self._over.set()
                for wake in self._wake:
                    wake()
