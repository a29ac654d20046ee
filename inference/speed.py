"""How many tokens a second an engine makes, lately."""

from collections.abc import Callable
from math import exp
from time import monotonic

from inference.engine import Step

_MEMORY_SECONDS = 10.0


class Rate:
    """Of a count, smoothed exponentially. The clock is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._counted = 0  # since then
        self._per_second = 0.0

    def add(self, count: int) -> None:
        self._counted += count

    def look(self) -> float:
        """Per second. Each look forgets a little of what was before the one before."""
        now = self._clock()
        seconds = now - self._at
        if seconds > 0:
            kept = exp(-seconds / _MEMORY_SECONDS)
            self._per_second = self._per_second * kept + self._counted / seconds * (1 - kept)
            self._at, self._counted = now, 0
        return self._per_second


class Speed:
    """Of one engine, as its steps tell: a prompt counts when its answer ends, with what was cached known by then."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.prefill = Rate(clock)
        self.decode = Rate(clock)

    def add(self, step: Step) -> None:
        self.decode.add(step.tokens)
        if step.finish:
            self.prefill.add(step.finish.prompt_tokens - step.finish.cached_tokens)
