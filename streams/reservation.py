"""What a request was let through with: how much it may use, of whose limits, and by which model."""

from enum import IntEnum
from typing import Any, NamedTuple, Self

import orjson

from streams.limits.account import Charge, Need, Whose
from streams.route import Route

_VERSION = b"\x02"


class ReservationKey(NamedTuple):
    """Both records that name a reservation, the admitted one and the usage event, carry these."""

    tenant: str
    accepted_at: int
    claim: str

    def encode(self) -> bytes:
        return self.start(self.tenant, self.accepted_at) + self.claim.encode()

    @classmethod
    def decode(cls, key: bytes) -> Self:
        _, tenant, rest = key.split(b"\0", 2)
        return cls(tenant.decode(), int.from_bytes(rest[:8]), rest[8:].decode())

    @staticmethod
    def start(tenant: str, accepted_at: int = 0) -> bytes:
        """Where those of that time (UTC ms) begin."""
        return b"r\0%b\0%b" % (tenant.encode(), max(0, accepted_at).to_bytes(8))


class Hold(IntEnum):
    OPEN = 0
    RELEASED = 1  # given back, and a late usage event is still awaited: it expired, or its waste came first
    SETTLED = 2  # over: kept for what a crash may make come twice


class Choice(NamedTuple):
    """How it was routed: a replay must not route it anew, since conditions and policy may have changed."""

    route: Route
    router_version: str


class Reservation(NamedTuple):
    """Times are UTC ms."""

    offset: int  # of the record on `admitted` that opened it; -1: none did
    need: Need
    admitted_at: int  # by the clock of the process that read it: shown, decides nothing
    at: int  # when it began to count
    until: int  # an open one is released then, another is forgotten
    hold: Hold = Hold.OPEN
    estimate: int = 0  # tokens of the prompt, before calibration
    capped: bool = False  # whether the caller limited the answer
    charges: tuple[Charge, ...] = ()
    choice: Choice | None = None
    rate_limits: str = ""  # as its answer will tell

    def encode(self) -> bytes:
        charges = [[*charge.whose, charge.measures] for charge in self.charges]
        choice = [*self.choice.route, self.choice.router_version] if self.choice else None
        times = (self.admitted_at, self.at, self.until)
        fields = [self.offset, *self.need, *times, self.hold, self.estimate, self.capped, charges, choice]
        return _VERSION + orjson.dumps([*fields, self.rate_limits])

    @classmethod
    def decode(cls, value: bytes) -> Self:
        fields = orjson.loads(value[1:])
        if value[:1] == b"\x01":
            offset, tokens, admitted_at, until, hold = fields
            return cls(offset, Need(tokens, 0), admitted_at, admitted_at, until, Hold(hold))
        offset, tokens, nano, requests, admitted_at, at, until, hold, estimate, capped, charges, choice, told = fields
        return cls(
            offset,
            Need(tokens, nano, requests),
            admitted_at,
            at,
            until,
            Hold(hold),
            estimate,
            capped,
            tuple(Charge(Whose(*whose), measures) for *whose, measures in charges),
            _choice(choice),
            told,
        )


def _choice(fields: list[Any] | None) -> Choice | None:
    return Choice(Route(*fields[:-1]), fields[-1]) if fields else None
