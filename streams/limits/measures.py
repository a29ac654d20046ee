"""What a limit may be of. Each measure keeps two numbers in an account: how much is used, and as of when.

A new measure is one line in MEASURES and one field of contracts.limits.Limit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from streams.limits import bucket
from streams.limits.account import Account, Need, Settlement
from streams.limits.calendar import day_ends, day_of, month_ends, month_of

TOKENS: Final = 0  # fields of Need
NANO: Final = 1
REQUESTS: Final = 2
_RUNS = 8  # the usual length of a run follows about so many of the last ones
_FORGIVEN_MS = 3_600_000  # a bucket that nobody touched for so long is empty, whatever was in it


class Measure(Protocol):
    """Amounts are in tokens, requests or nano-dollars, `now` and `at` in UTC ms."""

    @property
    def index(self) -> int:
        """Its place in an account."""

    @property
    def name(self) -> str:
        """The figure's, in contracts.limits."""

    @property
    def per(self) -> str:
        """As a caller reads it: so many tokens per day."""

    @property
    def of(self) -> int:
        """The field of Need that it measures."""

    @property
    def always(self) -> bool:
        """Whether it can be counted where it isn't limited."""

    @property
    def told(self) -> str:
        """Under which name callers are told what is left, as OpenAI does; empty where they aren't."""

    def refresh(self, account: Account, limit: int, now: int) -> None:
        """Bring its numbers up to date. (Without a limit: any number will do.)"""

    def wait_ms(self, account: Account, amount: int, limit: int, now: int) -> int:
        """Until the amount fits, if nobody else takes any; 0 when it does now."""

    def amount(self, account: Account) -> int:
        """What is used, in whole tokens, requests or nano-dollars."""

    def left(self, account: Account, limit: int) -> int: ...

    def reset_ms(self, account: Account, limit: int, now: int) -> int:
        """Until all of the limit is there again."""

    def take(self, account: Account, need: Need) -> None: ...

    def correct(self, account: Account, settled: Settlement) -> None:
        """Put what was used in the place of what was reserved."""

    def is_forgotten(self, account: Account, now: int) -> bool:
        """Whether zeros would say the same."""


@dataclass(frozen=True, slots=True)
class PerMinute:
    index: int
    name: str
    of: int
    told: str
    per: str = "per minute"
    always: bool = False

    def refresh(self, account: Account, limit: int, now: int) -> None:
        """Time never runs backwards here: an older record finds the bucket as it is."""
        i = self.index
        if now > account.at[i]:
            account.used[i] = bucket.leaked(account.used[i], limit, now - account.at[i])
            account.at[i] = now

    def wait_ms(self, account: Account, amount: int, limit: int, now: int) -> int:  # noqa: ARG002
        return bucket.wait_ms(account.used[self.index], amount, limit)

    def amount(self, account: Account) -> int:
        return -(-account.used[self.index] // bucket.MINUTE_MS)

    def left(self, account: Account, limit: int) -> int:
        return bucket.left(account.used[self.index], limit)

    def reset_ms(self, account: Account, limit: int, now: int) -> int:  # noqa: ARG002
        return bucket.empty_ms(account.used[self.index], limit)

    def take(self, account: Account, need: Need) -> None:
        account.used[self.index] = bucket.taken(account.used[self.index], need[self.of])

    def correct(self, account: Account, settled: Settlement) -> None:
        change = settled.used[self.of] - settled.reserved[self.of]
        account.at[self.index] = account.at[self.index] or settled.now
        account.used[self.index] = bucket.taken(account.used[self.index], change)

    def is_forgotten(self, account: Account, now: int) -> bool:
        return not account.used[self.index] or now - account.at[self.index] >= _FORGIVEN_MS


@dataclass(frozen=True, slots=True)
class PerWindow:
    """A day or a month of the calendar. What is reserved in one and ends in the next belongs to the first."""

    index: int
    name: str
    per: str
    of: int
    number: Callable[[int], int]
    ends: Callable[[int], int]
    told: str = ""
    always: bool = True

    def refresh(self, account: Account, limit: int, now: int) -> None:  # noqa: ARG002
        window = self.number(now)
        if window > account.at[self.index]:
            account.used[self.index], account.at[self.index] = 0, window

    def wait_ms(self, account: Account, amount: int, limit: int, now: int) -> int:
        return self.ends(now) - now if account.used[self.index] + amount > limit else 0

    def amount(self, account: Account) -> int:
        return account.used[self.index]

    def left(self, account: Account, limit: int) -> int:
        return max(0, limit - account.used[self.index])

    def reset_ms(self, account: Account, limit: int, now: int) -> int:  # noqa: ARG002
        return self.ends(now) - now if account.used[self.index] else 0

    def take(self, account: Account, need: Need) -> None:
        account.used[self.index] += need[self.of]

    def correct(self, account: Account, settled: Settlement) -> None:
        window = self.number(settled.began)
        if account.at[self.index] <= window:  # less: the account had been emptied and forgotten
            account.at[self.index] = window
            account.used[self.index] += settled.used[self.of] - settled.reserved[self.of]

    def is_forgotten(self, account: Account, now: int) -> bool:
        return not account.used[self.index] or self.number(now) > account.at[self.index]


@dataclass(frozen=True, slots=True)
class AtOnce:
    """What runs. Nobody knows when a run ends, so the wait is a guess: `at` is a run's usual length, in ms."""

    index: int
    name: str
    per: str = "at once"
    of: int = REQUESTS
    told: str = ""
    always: bool = True

    def refresh(self, account: Account, limit: int, now: int) -> None:
        """Nothing passes by itself."""

    def wait_ms(self, account: Account, amount: int, limit: int, now: int) -> int:  # noqa: ARG002
        """Of so many runs the next one ends after a run's length, divided by them."""
        return max(1, account.at[self.index] // limit) if account.used[self.index] >= limit else 0

    def amount(self, account: Account) -> int:
        return account.used[self.index]

    def left(self, account: Account, limit: int) -> int:
        return max(0, limit - account.used[self.index])

    def reset_ms(self, account: Account, limit: int, now: int) -> int:  # noqa: ARG002
        return account.at[self.index] if account.used[self.index] else 0

    def take(self, account: Account, need: Need) -> None:
        account.used[self.index] += need[self.of]

    def correct(self, account: Account, settled: Settlement) -> None:
        account.used[self.index] -= settled.reserved[self.of]
        if settled.used.tokens:
            took, usual = settled.now - settled.began, account.at[self.index]
            account.at[self.index] += (took - usual) // (_RUNS if usual else 1)

    def is_forgotten(self, account: Account, now: int) -> bool:  # noqa: ARG002
        return not account.used[self.index]


MEASURES: Final[tuple[Measure, ...]] = (
    PerMinute(0, "tokens_per_minute", TOKENS, "tokens"),
    PerWindow(1, "tokens_per_day", "per day", TOKENS, day_of, day_ends, "tokens"),
    PerMinute(2, "requests_per_minute", REQUESTS, "requests"),
    AtOnce(3, "concurrent_requests"),
    PerWindow(4, "dollars_per_day", "per day", NANO, day_of, day_ends),
    PerWindow(5, "dollars_per_month", "per month", NANO, month_of, month_ends),
)


def is_empty(account: Account, now: int) -> bool:
    """Whether it needn't be kept."""
    return all(measure.is_forgotten(account, now) for measure in MEASURES)
