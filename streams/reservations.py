"""Reservations over time: opened, settled for what was really used, given back when nothing comes."""

from functools import lru_cache

from contracts.usage import UsageEvent
from streams.limits.account import NOTHING, Need, Settlement
from streams.limits.measures import MEASURES, Measure
from streams.records import Record
from streams.reservation import Hold, Reservation, ReservationKey
from streams.tenants import Book, Tenant

_SWEEP_EVERY_MS = 10_000
_SWEEP_MOST = 20  # reservations that one event looks at
_KEPT_RELEASED = 24  # times its life: for a usage event that comes late after all
_KEPT_SETTLED_MS = 600_000  # what crashes make come twice comes twice within this, or costs a second, unbilled run
_NEVER_OPENED = -1


class Reservations:
    """`ttl_ms`: what nothing settled is given back after this."""

    def __init__(self, ttl_ms: int) -> None:
        self._ttl_ms = ttl_ms

    def tenant(self, book: Book, name: str, record: Record) -> Tenant:
        """The tenant as of this record's time, without what has expired."""
        tenant = book.tenant(name, record.timestamp)
        if tenant.at >= tenant.sweep_at:
            self._sweep(book, name, tenant)
        return tenant

    def until(self, at: int) -> int:
        return at + self._ttl_ms

    def settle(self, book: Book, key: ReservationKey, held: Reservation, event: UsageEvent) -> None:
        """The request has ended: what it used takes the place of what it reserved. What a released one used, counts
        all the same."""
        now = book.tenant(key.tenant, 0).at
        is_open = held.hold is Hold.OPEN
        used = _used(event, requests=1 if is_open else 0)
        _correct(book, key, held, Settlement(held.need if is_open else NOTHING, used, held.at, now))
        book.reserve(key, _closed(held.offset, now))
        if event.outcome.billed:
            history = book.history(event.tenant, event.model, change=True)
            history.add(event, held.estimate, capped=held.capped)

    def release(self, book: Book, key: ReservationKey, held: Reservation) -> None:
        """Give back, but remember: usage may follow its own waste after a crash, or come when all hope is gone."""
        if held.hold is not Hold.OPEN:
            return
        now = book.tenant(key.tenant, 0).at
        _correct(book, key, held, Settlement(held.need, Need(0, 0), held.at, now))
        book.reserve(key, held._replace(hold=Hold.RELEASED, until=now + _KEPT_RELEASED * self._ttl_ms))

    def close(self, book: Book, key: ReservationKey, now: int) -> None:
        """It ended before it was let through (it was cancelled, say): it won't be."""
        book.reserve(key, _closed(_NEVER_OPENED, now))

    def _sweep(self, book: Book, name: str, tenant: Tenant) -> None:
        """A bounded look: the next event goes on where this one stopped."""
        now = tenant.at
        young = now - min(self._ttl_ms, _KEPT_SETTLED_MS) + 1
        keys = book.reserved(name, tenant.swept_to, young, _SWEEP_MOST)
        for encoded in keys:
            key = ReservationKey.decode(encoded)
            held = book.reservation(key)
            if held and now >= held.until:
                if held.hold is Hold.OPEN:
                    self.release(book, key, held)
                else:
                    book.reserve(key, None)
        through = len(keys) < _SWEEP_MOST
        tenant.swept_to = b"" if through else keys[-1]
        tenant.sweep_at = now + _SWEEP_EVERY_MS if through else now


def _closed(offset: int, now: int) -> Reservation:
    """Nothing more is asked of it than that it is over."""
    return Reservation(offset, NOTHING, now, now, now + _KEPT_SETTLED_MS, Hold.SETTLED)


def _used(event: UsageEvent, *, requests: int) -> Need:
    if not event.outcome.billed:
        return Need(0, 0, requests)
    return Need(event.prompt_tokens + event.completion_tokens, event.cost_nano, requests)


def _correct(book: Book, key: ReservationKey, held: Reservation, settled: Settlement) -> None:
    for whose, measures in held.charges:
        account = book.account(key.tenant, whose)
        for measure in _measures(measures):
            measure.correct(account, settled)


@lru_cache(maxsize=1 << len(MEASURES))
def _measures(bits: int) -> tuple[Measure, ...]:
    return tuple(measure for measure in MEASURES if bits >> measure.index & 1)
