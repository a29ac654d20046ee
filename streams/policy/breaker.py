"""Circuit breakers, one per model: too large a share of failures opens it, a probe that ends well closes it again.

They are fed by what workers tell of outcomes, so every process that routes sees the same failures. Pure: the time is
given, UTC ms.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from contracts.settings import Settings
from contracts.workers import Beat, Outcomes


class Limits(NamedTuple):
    share: float  # of failures, from which on it opens
    least: int  # requests in the window, before one goes by them
    window_ms: int
    open_ms: int  # before a probe is let through, and between probes

    @classmethod
    def of(cls, settings: Settings) -> "Limits":
        return cls(
            settings.breaker_failure_share,
            settings.breaker_least_requests,
            settings.breaker_window_seconds * 1000,
            settings.breaker_open_seconds * 1000,
        )


class _Seen(NamedTuple):
    at: int
    ended: int
    failed: int


class Breaker:
    """Of one model."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._window: deque[_Seen] = deque()
        self._opened = False
        self._probe_at = 0  # the next one may go then
        self._probed_at: int | None = None

    def count(self, at: int, ended: int, failed: int) -> None:
        """So many more requests have ended since the last count."""
        if self._opened:
            self._judge_probe(at, ended, failed)
            return
        self._window.append(_Seen(at, ended, failed))
        while self._window[0].at <= at - self._limits.window_ms:
            self._window.popleft()
        requests, failures = sum(one.ended for one in self._window), sum(one.failed for one in self._window)
        if requests >= self._limits.least and failures >= self._limits.share * requests:
            self._open(at)

    @property
    def opened(self) -> bool:
        return self._opened

    def refuses(self, now: int) -> bool:
        """Whether requests should go elsewhere. Half-open, it lets one through: tell it by `probed`."""
        return self._opened and now < self._probe_at

    def probed(self, now: int) -> None:
        """A request went to the model, open as it is."""
        self._probed_at, self._probe_at = now, now + self._limits.open_ms

    def _judge_probe(self, at: int, ended: int, failed: int) -> None:
        """What ends before a probe was begun long ago, and tells nothing new."""
        if self._probed_at is None or at <= self._probed_at or not ended:
            return
        if failed:
            self._open(at)
        else:
            self._opened, self._probed_at = False, None

    def _open(self, at: int) -> None:
        self._opened, self._probed_at, self._probe_at = True, None, at + self._limits.open_ms
        self._window.clear()


class Breakers:
    """Of all models, fed with the workers' beats."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._known: dict[str, Breaker] = {}
        self._told: dict[tuple[str, str], Outcomes] = {}  # by worker and model

    def of(self, model: str) -> Breaker:
        if model not in self._known:
            self._known[model] = Breaker(self._limits)
        return self._known[model]

    def look(self, beats: Iterable[Beat]) -> None:
        """The last beat of each worker that is there. What ended before its first one is past."""
        told: dict[tuple[str, str], Outcomes] = {}
        for beat in beats:
            for load in beat.models:
                place = beat.worker, load.model
                told[place] = load.outcomes
                before = self._told.get(place, load.outcomes)
                ended, failed = load.outcomes.ended - before.ended, load.outcomes.failed - before.failed
                if ended > 0:
                    self.of(load.model).count(beat.at, ended, max(failed, 0))
        self._told = told
