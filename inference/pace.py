"""How long requests take in an engine: so when its places become free, and how much waiting work that is."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from contracts.envelope import Lane
from contracts.topics import LANES
from contracts.waits import GOLDEN
from inference.claims import Place

_WEIGHT = 1 / 32  # of the latest request
_LATEST = 64  # requests whose times are kept
_FULL = 0.75  # of the room: from there on a request's time is that of a full engine
_POINTS = 17  # of the quantiles that are told


class _Run(NamedTuple):
    lane: Lane
    tokens: int  # as they were estimated
    began: float  # by the clock, seconds
    crowd: int  # that ran then, itself included


class _Known:
    """Tokens and seconds of the last few dozen requests."""

    def __init__(self) -> None:
        self.tokens = 0.0  # of a request
        self.seconds = 0.0
        self._latest: deque[tuple[int, float]] = deque(maxlen=_LATEST)

    def add(self, tokens: int, seconds: float) -> None:
        tokens = max(tokens, 1)
        weight = _WEIGHT if self.tokens else 1.0
        self.tokens += (tokens - self.tokens) * weight
        self.seconds += (seconds - self.seconds) * weight
        self._latest.append((tokens, seconds))

    @property
    def pace(self) -> float:
        """Seconds by token."""
        return self.seconds / self.tokens

    @property
    def spread(self) -> list[float]:
        """Their times over the mean of these, the shortest first."""
        mean = sum(seconds for _, seconds in self._latest) / len(self._latest)
        return sorted(seconds / mean for _, seconds in self._latest) if mean else []

    @property
    def truth(self) -> list[float]:
        """Their times over what the pace says of their tokens, the shortest first."""
        return sorted(seconds / (tokens * self.pace) for tokens, seconds in self._latest) if self.seconds else []


class Pace:
    """Of one model's engine. Work waits only for a full engine, and there each request takes longer than alone: so what
    was seen in a full engine counts, as soon as there is any."""

    def __init__(self, room: int, clock: Callable[[], float]) -> None:
        self._room = room
        self._clock = clock
        self._running: dict[Place, _Run] = {}
        self._full: dict[Lane, _Known] = {lane: _Known() for lane in LANES}
        self._calm: dict[Lane, _Known] = {lane: _Known() for lane in LANES}

    def start(self, place: Place, lane: Lane, tokens: int) -> None:
        self._running[place] = _Run(lane, tokens, self._clock(), len(self._running) + 1)

    def end(self, place: Place) -> None:
        """A run that was never started, or ended before, is none."""
        crowd = len(self._running)
        run = self._running.pop(place, None)
        if run:
            full = max(run.crowd, crowd) >= _FULL * self._room
            known = self._full if full else self._calm
            known[run.lane].add(run.tokens, self._clock() - run.began)

    def drop(self, place: Place) -> None:
        """It was taken out before its end: that tells nothing."""
        self._running.pop(place, None)

    @property
    def crowd(self) -> int:
        """Requests that run."""
        return len(self._running)

    def began_ago(self, place: Place) -> float | None:
        """Seconds; None for what doesn't run."""
        run = self._running.get(place)
        return None if run is None else self._clock() - run.began

    def running(self, lane: Lane) -> int:
        return sum(run.lane == lane for run in self._running.values())

    def mean_tokens(self, lane: Lane) -> int:
        """Of a request; 0 while none is known."""
        known = self._known(lane)
        return round(known.tokens) if known else 0

    def seconds_per_token(self, lane: Lane) -> float | None:
        """A request's time in the engine over its estimated tokens; None while none is known."""
        known = self._known(lane)
        return known.pace if known else None

    def spread(self, lane: Lane) -> tuple[float, ...]:
        """Requests' times in the engine over their mean, the shortest first: all, or quantiles of them."""
        known = self._known(lane)
        return tuple(round(share, 3) for share in _quantiles(known.spread)) if known else ()

    def frees_ms(self, lane: Lane, places: int) -> tuple[int, ...]:
        """When each of the lane's places is expected to be free, soonest first: all, or quantiles of them."""
        runs = [run for run in self._running.values() if run.lane == lane]
        frees = sorted([0.0] * (places - len(runs)) + self._left(lane, runs))[:places]
        return tuple(round(seconds * 1000) for seconds in _quantiles(frees))

    def _left(self, lane: Lane, runs: list[_Run]) -> list[float]:
        """Seconds until each ends, by what the times of others, over what was expected of them, say of those that are
        still running after so long. Who is longer than any was ends with the next step, as far as anyone knows."""
        known, now = self._known(lane), self._clock()
        if not known:
            return [0.0] * len(runs)
        truth = known.truth
        left = []
        for number, run in enumerate(runs):
            expected, ago = run.tokens * known.pace, now - run.began
            shares = truth[bisect_right(truth, ago / expected) :] if expected else []
            left.append(shares[int(number * GOLDEN % 1 * len(shares))] * expected - ago if shares else 0.0)
        return left

    def _known(self, lane: Lane) -> _Known | None:
        """The most telling one: of this lane in a full engine, of either in it, of this lane at all."""
        other = LANES[1 - LANES.index(lane)]
        candidates = (self._full[lane], self._calm[lane], self._full[other], self._calm[other])
        return next((known for known in candidates if known.tokens), None)


def _quantiles(values: list[float]) -> list[float]:
    """All, when they are few; else evenly spaced ones, the first and the last among them."""
    if len(values) <= _POINTS:
        return values
    last = len(values) - 1
    return [values[round(point * last / (_POINTS - 1))] for point in range(_POINTS)]
