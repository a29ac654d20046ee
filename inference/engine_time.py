"""Each job's share of its engine's time: jobs that run together share the clock, so that all shares add up to it."""

import time
from collections.abc import Callable


class SharedClock:
    """Processor sharing: while n jobs run, each is charged 1/n of the time that passes."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock  # seconds
        self._charged = 0.0  # to a job that had run from the start
        self._running = 0
        self._at = clock()

    def enter(self) -> float:
        """A job starts; keep what this returns for `leave`."""
        self._advance()
        self._running += 1
        return self._charged

    def leave(self, entered: float) -> int:
        """The job is over: its share, microseconds."""
        self._advance()
        self._running -= 1
        return round((self._charged - entered) * 1e6)

    def _advance(self) -> None:
        now = self._clock()
        if self._running:
            self._charged += (now - self._at) / self._running
        self._at = now
