"""The `tenants` table: separate entries, so that an event costs the same however much its tenant does.

    t\\0tenant                       bucket, totals, and the last applied offset of each input
    r\\0tenant\\0accepted_at claim    one reservation, in order of age
    c\\0tenant\\0model\\0user          real tokens

One batch's changes of a partition are kept or lost together (see State), so the offsets in the tenant's entry say what
every other entry of that tenant contains.
"""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple, Self

import orjson

from contracts.usage import UsageEvent
from streams.bucket import Bucket
from streams.state import State

_VERSION = b"\x01"


@dataclass(slots=True)
class Tokens:
    """What was really used, since the beginning."""

    requests: int = 0
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    cost_nano: int = 0

    def add(self, event: UsageEvent) -> None:
        self.requests += 1
        self.prompt += event.prompt_tokens
        self.cached += event.cached_tokens
        self.completion += event.completion_tokens
        self.cost_nano += event.cost_nano

    def values(self) -> list[int]:
        return [self.requests, self.prompt, self.cached, self.completion, self.cost_nano]

    def encode(self) -> bytes:
        return _VERSION + orjson.dumps(self.values())

    @classmethod
    def decode(cls, value: bytes) -> Self:
        return cls(*orjson.loads(value[1:]))


@dataclass(slots=True)
class Tenant:
    bucket: Bucket
    admitted: int = -1  # offset on `admitted`: whatever stands up to it has been applied
    settled: int = -1  # the same on `usage`
    sweep_at: int = 0  # when to look through the reservations again, UTC ms
    swept_to: bytes = b""  # where the last look stopped, if it wasn't through
    used: Tokens = field(default_factory=Tokens)

    def encode(self) -> bytes:
        fields = [*self.bucket, self.admitted, self.settled, self.sweep_at, self.swept_to.hex(), self.used.values()]
        return _VERSION + orjson.dumps(fields)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        level, at, admitted, settled, sweep_at, swept_to, used = orjson.loads(value[1:])
        return cls(Bucket(level, at), admitted, settled, sweep_at, bytes.fromhex(swept_to), Tokens(*used))


class ReservationKey(NamedTuple):
    """Both records that name a reservation, the admitted one and the usage event, carry these."""

    tenant: str
    accepted_at: int
    claim: str

    def encode(self) -> bytes:
        return b"%b%b%b" % (_prefix(self.tenant), _time(self.accepted_at), self.claim.encode())

    @classmethod
    def decode(cls, key: bytes) -> Self:
        _, tenant, rest = key.split(b"\0", 2)
        return cls(tenant.decode(), int.from_bytes(rest[:8]), rest[8:].decode())


class Hold(IntEnum):
    OPEN = 0
    RELEASED = 1  # given back, and a late usage event is still awaited: it expired, or its waste came first
    SETTLED = 2  # over: kept for what a crash may make come twice


class Reservation(NamedTuple):
    """Tokens that a request may use up."""

    offset: int  # of the record on `admitted` that opened it
    tokens: int
    admitted_at: int
    until: int  # UTC ms: an open one is released then, another is forgotten
    hold: Hold = Hold.OPEN

    def encode(self) -> bytes:
        return _VERSION + orjson.dumps([*self])

    @classmethod
    def decode(cls, value: bytes) -> Self:
        offset, tokens, admitted_at, until, hold = orjson.loads(value[1:])
        return cls(offset, tokens, admitted_at, until, Hold(hold))


class Book:
    """One batch's view of a partition: a tenant's entry is decoded once and written once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tenants: dict[str, Tenant] = {}
        self._used: dict[bytes, Tokens] = {}

    def tenant(self, name: str, limit: int, now: int) -> Tenant:
        """A tenant that isn't known yet has a full bucket."""
        tenant = self._tenants.get(name)
        if tenant is None:
            stored = self._state.get(_tenant_key(name))
            tenant = Tenant.decode(stored) if stored else Tenant(Bucket.full(limit, now))
            self._tenants[name] = tenant
        return tenant

    def reservation(self, key: ReservationKey) -> Reservation | None:
        stored = self._state.get(key.encode())
        return Reservation.decode(stored) if stored else None

    def reserve(self, key: ReservationKey, reservation: Reservation | None) -> None:
        """None forgets it."""
        self._state.put(key.encode(), reservation.encode() if reservation else None)

    def reserved(self, tenant: str, after: bytes, accepted_before: int, most: int) -> list[bytes]:
        """Keys of the oldest reservations that are older than that, and come after that key."""
        start = after + b"\0" if after else _prefix(tenant)
        return [key for key, _ in self._state.scan(start, _prefix(tenant) + _time(accepted_before), most)]

    def count(self, event: UsageEvent) -> None:
        """Real tokens, to the tenant, and to its user and model."""
        self._tenants[event.tenant].used.add(event)
        key = used_key(event.tenant, event.model, event.user)
        used = self._used.get(key)
        if used is None:
            stored = self._state.get(key)
            used = self._used[key] = Tokens.decode(stored) if stored else Tokens()
        used.add(event)

    def close(self) -> None:
        """Write what this batch changed; nothing may be asked of the book afterwards."""
        for key, used in self._used.items():
            self._state.put(key, used.encode())
        for name, tenant in self._tenants.items():
            self._state.put(_tenant_key(name), tenant.encode())


def used_key(tenant: str, model: str, user: str) -> bytes:
    """The user comes last: it alone may hold any character."""
    return f"c\0{tenant}\0{model}\0{user}".encode()


def _tenant_key(name: str) -> bytes:
    return f"t\0{name}".encode()


def _prefix(tenant: str) -> bytes:
    return f"r\0{tenant}\0".encode()


def _time(ms: int) -> bytes:
    return max(0, ms).to_bytes(8)
