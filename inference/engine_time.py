"""Whose the engine's time was: every microsecond is idle, a request's, or under way, and none is lost or counted twice.

A second of busy time is shared by the tokens that were computed in it: a prompt's fresh ones (what the prefix cache
had costs nothing) and the answer's. Who leaves in between takes its part of what has passed; who is last, the rest.
Amounts are integers, and each part is the difference of two running sums, so that the parts add up exactly.

An engine may keep silent on an answer until it is whole. Until it tells, its tokens are guessed by the pace of those
before it: that decides who pays how much, never how much is paid.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from contracts.engine_time import HOUR_US
from inference.engine import Step

_SHARED_AT_ONCE_US = 1_000_000
_SILENT_US = 200_000
_GUESSES_US = 50_000  # apart at least
_FIRST_PACE_US = 20_000  # of a token, until one answer is whole
_LEARNS = 0.1  # how much of the newest goes into a mean


@dataclass(slots=True, eq=False)
class Seat:
    """A request in the engine. Tokens are those counted so far, told or guessed."""

    estimate: int  # tokens of the prompt
    entered_at: int
    news_at: int
    told: int = 0  # tokens of the answer
    prompt_told: bool = False
    prompt: int = 0
    answer: int = 0
    unpaid: int = 0  # tokens since the last share
    charged_us: int = 0


class Share(NamedTuple):
    """What a request has cost: microseconds of the engine, nano-dollars of its GPUs."""

    engine_us: int = 0
    gpu_nano: int = 0


NO_SHARE = Share()


@dataclass(slots=True)
class Stretch:
    """What was done since the last one: fields of contracts.engine_time.EngineTime."""

    wall_us: int = 0
    idle_us: int = 0
    shared_us: int = 0
    under_way_us: int = 0
    idle_nano: int = 0
    shared_nano: int = 0
    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seat_us: int = 0
    most_running: int = 0


class EngineMeter:
    """One per engine. Its time begins with it, so that loading the model counts as idle."""

    def __init__(self, gpu_hour_nano: int = 0, clock_us: Callable[[], int] | None = None) -> None:
        """`gpu_hour_nano`: of all the engine's GPUs together."""
        self._rate = gpu_hour_nano
        self._clock = clock_us or _monotonic_us
        self._at = self._guessed_at = self._clock()
        self._seats: dict[Seat, None] = {}  # in order of arrival
        self._unpaid = 0  # tokens of these
        self._pool = 0  # busy microseconds that nobody is charged with yet
        self._priced_us = 0  # from the start, so that the remainders of money are carried on
        self._pace_us = float(_FIRST_PACE_US)  # per token of an answer
        self._fresh = 1.0  # prompt tokens that were computed, by those that were estimated
        self._stretch = Stretch()

    def enter(self, prompt_estimate: int) -> Seat:
        """A request begins."""
        self._advance()
        seat = Seat(prompt_estimate, self._at, self._at)
        self._seats[seat] = None
        self._stretch.most_running = max(self._stretch.most_running, len(self._seats))
        return seat

    def add(self, seat: Seat, step: Step) -> None:
        """What the engine says that it has computed for it."""
        self._advance()
        seat.told += step.tokens
        seat.news_at = self._at
        self._stretch.completion_tokens += step.tokens
        fresh = _fresh_tokens(step)
        if fresh is not None and not seat.prompt_told:
            seat.prompt_told = True
            self._stretch.prompt_tokens += fresh
        self._weigh(seat, seat.prompt if fresh is None else fresh, seat.told)

    def leave(self, seat: Seat) -> Share:
        """The request is over, however it ended."""
        self._advance()
        self._guess()
        part = self._part_of(seat)
        self._pool -= part
        self._unpaid -= seat.unpaid
        del self._seats[seat]
        self._learn(seat)
        engine_us = seat.charged_us + part
        share = Share(engine_us, self._price(engine_us))
        self._stretch.shared_us += share.engine_us
        self._stretch.shared_nano += share.gpu_nano
        self._stretch.requests += 1
        return share

    def cut(self) -> Stretch:
        """Ends the stretch, and begins the next."""
        self._advance()
        under_way = self._pool + sum(seat.charged_us for seat in self._seats)
        ended = replace(self._stretch, under_way_us=under_way, idle_nano=self._price(self._stretch.idle_us))
        self._stretch = Stretch(most_running=len(self._seats))
        return ended

    def _advance(self) -> None:
        now = self._clock()
        passed, self._at = now - self._at, now
        stretch, running = self._stretch, len(self._seats)
        stretch.wall_us += passed
        if not running:
            stretch.idle_us += passed
            return
        stretch.seat_us += passed * running
        self._pool += passed
        if self._pool >= _SHARED_AT_ONCE_US:
            self._guess()
            if self._unpaid:
                self._share_out()

    def _share_out(self) -> None:
        """Each gets the difference of two running sums, rounded down: together they get the pool."""
        so_far = before = 0
        for seat in self._seats:
            so_far += seat.unpaid
            upto = self._pool * so_far // self._unpaid
            seat.charged_us += upto - before
            seat.unpaid, before = 0, upto
        self._pool = self._unpaid = 0

    def _part_of(self, seat: Seat) -> int:
        if len(self._seats) == 1:
            return self._pool
        return self._pool * seat.unpaid // self._unpaid if self._unpaid else self._pool // len(self._seats)

    def _guess(self) -> None:
        """What those of whom nothing was heard have probably got by now."""
        if self._at - self._guessed_at < _GUESSES_US:
            return
        self._guessed_at = self._at
        for seat in self._seats:
            silent = self._at - seat.news_at
            if silent >= _SILENT_US:
                prompt = seat.prompt if seat.prompt_told else round(seat.estimate * self._fresh)
                self._weigh(seat, prompt, max(seat.answer, seat.told + int(silent / self._pace_us)))

    def _weigh(self, seat: Seat, prompt: int, answer: int) -> None:
        """Counts it so from now on. A guess that was too high is taken back, as far as it isn't paid."""
        more = max(prompt + answer - seat.prompt - seat.answer, -seat.unpaid)
        seat.prompt, seat.answer = prompt, answer
        seat.unpaid += more
        self._unpaid += more

    def _learn(self, seat: Seat) -> None:
        if seat.told:
            self._pace_us += _LEARNS * ((self._at - seat.entered_at) / seat.told - self._pace_us)
            self._pace_us = max(self._pace_us, 1.0)
        if seat.prompt_told and seat.estimate:
            self._fresh += _LEARNS * (seat.prompt / seat.estimate - self._fresh)

    def _price(self, us: int) -> int:
        before = self._priced_us * self._rate // HOUR_US
        self._priced_us += us
        return self._priced_us * self._rate // HOUR_US - before


def _fresh_tokens(step: Step) -> int | None:
    """Tokens of the prompt that were computed, where the engine tells; those of the prefix cache weren't."""
    if step.fresh_tokens is not None:
        return step.fresh_tokens
    return step.finish.prompt_tokens - step.finish.cached_tokens if step.finish else None


def _monotonic_us() -> int:
    return time.perf_counter_ns() // 1000
