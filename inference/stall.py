"""An engine that gives no sign of life: noticed without a timer per token."""

import asyncio
from math import inf
from types import TracebackType


class StallWatch:
    """An async context that ends with TimeoutError when `seconds` pass without `stepped()`.

    A step only writes down its time; one timer per run looks at it, and once more when it must.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._limit = asyncio.timeout(None)
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def stepped(self) -> None:
        self._at = self._loop.time()

    def pause(self) -> None:
        """Until the next step somebody else is waited for."""
        self._at = inf

    async def __aenter__(self) -> "StallWatch":
        await self._limit.__aenter__()
        self.stepped()
        self._timer = self._loop.call_later(self._seconds, self._look)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._timer:
            self._timer.cancel()
        await self._limit.__aexit__(kind, error, traceback)

    def cut(self, seconds: float = 0.0) -> None:
        """End it by then, whatever it gives."""
        self._limit.reschedule(self._loop.time() + seconds)

    @property
    def expired(self) -> bool:
        return self._limit.expired()

    def _look(self) -> None:
        now = self._loop.time()
        left = self._seconds - max(now - self._at, 0)
        if left <= 0:
            self._limit.reschedule(now)
        else:
            self._timer = self._loop.call_later(left, self._look)
