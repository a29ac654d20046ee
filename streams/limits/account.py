"""An account: how much of each measure somebody uses now. One that isn't there has used nothing."""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import orjson

_MEASURES = 6
_VERSION = b"\x01"


class Whose(NamedTuple):
    """Within a tenant. None: it doesn't matter; so the tenant's own account is Whose()."""

    user: str | None = None
    feature: str | None = None
    api_key: str | None = None


TENANT = Whose()


class Charge(NamedTuple):
    """An account in which a request counts, and there the measures: bit n is the one of index n."""

    whose: Whose
    measures: int


class Need(NamedTuple):
    """What a request may use, or has used."""

    tokens: int
    nano: int  # nano-dollars
    requests: int = 1

    def or_more(self, other: "Need") -> "Need":
        """Enough for the one as well as for the other."""
        return Need(*map(max, self, other))


class Settlement(NamedTuple):
    """A request that was let through, and is over. Times are UTC ms."""

    reserved: Need  # nothing, when it was given back already
    used: Need
    began: int
    now: int


NOTHING = Need(0, 0, 0)


@dataclass(slots=True)
class Account:
    """By the measures' index: how much is used, and as of when. What these two are exactly is the measure's matter."""

    used: list[int] = field(default_factory=lambda: [0] * _MEASURES)
    at: list[int] = field(default_factory=lambda: [0] * _MEASURES)

    def encode(self) -> bytes:
        return _VERSION + orjson.dumps([self.used, self.at])

    @classmethod
    def decode(cls, value: bytes) -> Self:
        return cls(*orjson.loads(value[1:]))
