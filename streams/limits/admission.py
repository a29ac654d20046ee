"""Whether a request fits into every account that it comes under, when it would, and what that leaves."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from contracts.limits import Selector, dollars
from contracts.rate_limits import write_rate_limits
from streams.limits.account import Account, Need
from streams.limits.measures import NANO, REQUESTS, TOKENS, Measure
from streams.limits.policy import Held

_UNITS = {TOKENS: "tokens", NANO: "dollars", REQUESTS: "requests"}
_SOON_MS = 120_000  # what is later is told by the clock


class Place(NamedTuple):
    """An account, and what holds for it."""

    account: Account
    held: Held


class Shortage(NamedTuple):
    """Why a request doesn't fit."""

    place: Place
    measure: Measure
    limit: int
    amount: int  # that it needs
    wait_ms: int | None  # None: it can never fit

    def explain(self, tenant: str, now: int) -> str:
        """For the caller."""
        whose = Selector(tenant, *self.place.held.whose)
        limit = f"{self._say(self.limit)} {self.measure.per}"
        if self.wait_ms is None:
            shorten = "; shorten the prompt or lower max_tokens" if self.measure.of != REQUESTS else ""
            return (
                f"This request may use {self._say(self.amount)}, which can never fit the limit of {limit} of "
                f"{whose}{shorten}."
            )
        left = self._say(self.measure.left(self.place.account, self.limit))
        return (
            f"Rate limit reached for {whose}: {limit}, of which {left} are left, and this request may use "
            f"{self._say(self.amount)}. Try again {_when(self.wait_ms, now)}."
        )

    def _say(self, amount: int) -> str:
        return f"${dollars(amount)}" if self.measure.of == NANO else f"{amount} {_UNITS[self.measure.of]}"


def refresh(places: Iterable[Place], now: int) -> None:
    """Every number as of now (UTC ms)."""
    for account, held in places:
        for measure, limit in held.counted:
            measure.refresh(account, limit, now)


def shortage(places: Iterable[Place], need: Need, now: int) -> Shortage | None:
    """What holds it up longest: when that is over, it fits, if nobody else came."""
    worst: Shortage | None = None
    longest = 0
    for place in places:
        for measure, limit in place.held.limits:
            amount = need[measure.of]
            if amount > limit:
                return Shortage(place, measure, limit, amount, None)
            wait = measure.wait_ms(place.account, amount, limit, now)
            if wait > longest:
                longest, worst = wait, Shortage(place, measure, limit, amount, wait)
    return worst


def take(places: Iterable[Place], need: Need) -> None:
    for account, held in places:
        for measure, _ in held.counted:
            measure.take(account, need)


def budget_used(places: Iterable[Place]) -> float:
    """Of the tightest limit in money, 0 to 1."""
    spent = [
        measure.amount(account) / limit if limit else 1.0
        for account, held in places
        for measure, limit in held.limits
        if measure.of == NANO
    ]
    return min(1.0, max(spent, default=0.0))


def tell(places: Iterable[Place], now: int) -> str:
    """The `rate-limits` header: of requests and of tokens, the limit of which the least is left."""
    least: dict[str, tuple[int, Account, Measure, int]] = {}
    for account, held in places:
        for measure, limit in held.limits:
            if measure.told:
                left = measure.left(account, limit)
                known = least.get(measure.told)
                if known is None or left < known[0]:
                    least[measure.told] = left, account, measure, limit
    return write_rate_limits(
        [(name, limit, left, m.reset_ms(account, limit, now)) for name, (left, account, m, limit) in least.items()]
    )


def _when(wait_ms: int, now: int) -> str:
    if wait_ms <= _SOON_MS:
        return f"in {wait_ms / 1000:.3f} s"
    return f"at {datetime.fromtimestamp((now + wait_ms) / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
