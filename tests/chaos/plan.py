"""What is asked, by whom and through which door, and what these clients then do: an order of calls from a seed."""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from contracts.envelope import OnDisconnect
from millrace.replay.prompts import TENANTS, WORDS
from tests.chaos.answers import Ask, Door
from tests.chaos.cascade import UNSURE, sureness
from tests.chaos.limits import FRUGAL, MODEL, MOST_TOKENS, NARROW

_TWINS = 0.15  # share of requests that a second client asks as well
_ASKED_BY_A_USER = 100  # numbers of requests, of which a few are frugal ones
_BURST = 4  # requests of the tenant that may have two at once
_WAYS = get_args(OnDisconnect)
_PLAIN = (Door.WHOLE, Door.STREAMED, Door.KAFKA, Door.SOCKET)


@dataclass(frozen=True)
class Planned:
    """Calls that begin at the same moment; the first one's request may be cancelled so many seconds later."""

    asks: tuple[Ask, ...]
    delete_after: float | None = None


@dataclass(frozen=True)
class Die:
    """What one request is made with."""

    rng: random.Random
    name: str
    number: int

    def key(self, *tenants: str) -> str:
        return f"{self.rng.choice(tenants or TENANTS)}:{self.name}"

    def body(self, model: str, least: int, most: int) -> dict[str, Any]:
        """Sampled: each run says something else."""
        words = " ".join(self.rng.choices(WORDS, k=20))
        return {
            "model": model,
            "messages": [{"role": "user", "content": f"{self.number}: {words}"}],
            "max_tokens": self.rng.randrange(least, most),
            "temperature": 0.7,
        }

    def short(self) -> dict[str, Any]:
        return self.body(self.rng.choice(("small", "small", "auto", "large")), 10, MOST_TOKENS)

    def long(self) -> dict[str, Any]:
        """One to three seconds."""
        model = self.rng.choice(("small", "large"))
        return self.body(model, *((150, 400) if model == "small" else (80, 200)))

    def with_twin(self, ask: Ask) -> tuple[Ask, ...]:
        if self.rng.random() >= _TWINS:
            return (ask,)
        return ask, Ask(ask.key, self.rng.choice(_PLAIN), ask.body, limited=ask.limited, timed=ask.timed)


def _plain(die: Die) -> Planned:
    return Planned(die.with_twin(Ask(die.key(), die.rng.choice(_PLAIN), die.short())))


def _resumed(die: Die) -> Planned:
    """Hung up by the way, whatever that makes of its request."""
    door, way = die.rng.choice((Door.RESUMED, Door.RESUMED, Door.SOCKET)), die.rng.choice(_WAYS)
    ask = Ask(die.key(), door, die.long(), cuts=die.rng.randint(1, 3), on_disconnect=way, timed=False)
    return Planned(die.with_twin(ask))


def _left(die: Die) -> Planned:
    door, way, seconds = die.rng.choice((Door.WHOLE, Door.STREAMED)), die.rng.choice(_WAYS), die.rng.uniform(0.1, 2)
    ask = Ask(die.key(), door, die.long(), on_disconnect=way, leaves_after=seconds, timed=False)
    return Planned(die.with_twin(ask))


def _cancelled(die: Die) -> Planned:
    """At once, when it may not even have begun, or in the middle, or too late."""
    ask = Ask(die.key(), die.rng.choice(tuple(Door)), die.long(), timed=False)
    return Planned(die.with_twin(ask), die.rng.choice((0.0, die.rng.uniform(0, 3))))


def _frugal(die: Die) -> Planned:
    """A user with a budget, that ends after some of its requests. Now and then one is cancelled."""
    user = {"user": f"user-{die.number // _ASKED_BY_A_USER}"}
    door = die.rng.choice(_PLAIN)
    ask = Ask(die.key(FRUGAL), door, die.body(MODEL, 10, MOST_TOKENS) | user, limited=True, timed=False)
    return Planned(die.with_twin(ask), die.rng.uniform(0, 0.5) if die.rng.random() < 0.2 else None)


def _narrow(die: Die) -> Planned:
    """More at once than may run; who is turned away tries again."""
    keys = [f"{die.key(NARROW)}-{number}" for number in range(_BURST)]
    return Planned(tuple([Ask(key, die.rng.choice(_PLAIN), die.short(), timed=False) for key in keys]))


def _unsure(die: Die) -> Planned:
    """Mostly answered by the second model, after the first. Now and then one is cancelled, before, between or after."""
    sure, door = die.rng.random() < 0.3, die.rng.choice(tuple(Door))
    body = die.body("auto", 10, MOST_TOKENS) | sureness(sure=sure)
    ask = Ask(die.key(UNSURE), door, body, cuts=1 if door is Door.RESUMED else 0, timed=False)
    return Planned(die.with_twin(ask), die.rng.uniform(0, 2) if die.rng.random() < 0.15 else None)


_KINDS: dict[Callable[[Die], Planned], float] = {
    _plain: 0.54,
    _resumed: 0.10,
    _left: 0.08,
    _cancelled: 0.08,
    _frugal: 0.09,
    _narrow: 0.03,
    _unsure: 0.08,
}


def plan(seed: int) -> Iterator[Planned]:
    """Without end. The same seed gives the same order."""
    rng = random.Random(f"load {seed}")
    for number in itertools.count():
        [kind] = rng.choices(list(_KINDS), list(_KINDS.values()))
        yield kind(Die(rng, f"chaos-{seed}-{number:06d}", number))
