"""The `tenants` table: separate entries, so that an event costs the same however much its tenant does.

    t\\0tenant                       its account, and the last applied offset of each input
    u\\0tenant\\0[user,feature,key]   the account of a part of it that has limits of its own
    m\\0tenant\\0model                what its requests to that model really used
    r\\0tenant\\0accepted_at claim    one reservation, in order of age
    s\\0accounts                     how far the search for accounts that nobody uses has come

One batch's changes of a partition are kept or lost together (see State), so the offsets in the tenant's entry say what
every other entry of that tenant contains.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import orjson

from streams.limits.account import TENANT, Account, Whose
from streams.limits.history import History
from streams.limits.measures import is_empty
from streams.reservation import Reservation, ReservationKey
from streams.state import State

_VERSION = b"\x02"
_SEARCH = b"s\0accounts"
_SEARCH_EVERY_MS = 60_000
_SEARCH_MOST = 20  # accounts that one batch looks at


@dataclass(slots=True)
class Tenant:
    """Times are UTC ms."""

    account: Account = field(default_factory=Account)
    admitted: int = -1  # offset on `admitted`: whatever stands up to it has been applied
    settled: int = -1  # the same on `usage`
    at: int = 0  # of the latest record: time never runs backwards here
    sweep_at: int = 0  # when to look through the reservations again
    swept_to: bytes = b""  # where the last look stopped, if it wasn't through

    def encode(self) -> bytes:
        account = (self.account.used, self.account.at)
        fields = [*account, self.admitted, self.settled, self.at, self.sweep_at, self.swept_to.hex()]
        return _VERSION + orjson.dumps(fields)

    @classmethod
    def decode(cls, value: bytes) -> Self:
        if value[:1] == b"\x01":  # had one bucket of tokens
            _, at, admitted, settled, sweep_at, swept_to, _ = orjson.loads(value[1:])
            return cls(Account(), admitted, settled, at, sweep_at, bytes.fromhex(swept_to))
        used, stamps, admitted, settled, at, sweep_at, swept_to = orjson.loads(value[1:])
        return cls(Account(used, stamps), admitted, settled, at, sweep_at, bytes.fromhex(swept_to))


class Book:
    """One batch's view of a partition: an entry that many records change is decoded once and written once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._tenants: dict[str, Tenant] = {}
        self._accounts: dict[bytes, Account] = {}
        self._histories: dict[bytes, History] = {}
        self._learned: set[bytes] = set()  # the histories that have changed
        self._now = 0

    def tenant(self, name: str, at: int) -> Tenant:
        """As of a record's time (UTC ms). One that isn't known yet has used nothing."""
        tenant = self._tenants.get(name)
        if tenant is None:
            stored = self._state.get(_tenant_key(name))
            tenant = self._tenants[name] = Tenant.decode(stored) if stored else Tenant()
        tenant.at = max(tenant.at, at)
        self._now = max(self._now, at)
        return tenant

    def account(self, tenant: str, whose: Whose) -> Account:
        """The tenant must have been asked for before."""
        if whose == TENANT:
            return self._tenants[tenant].account
        key = account_key(tenant, whose)
        account = self._accounts.get(key)
        if account is None:
            stored = self._state.get(key)
            account = self._accounts[key] = Account.decode(stored) if stored else Account()
        return account

    def history(self, tenant: str, model: str, *, change: bool = False) -> History:
        key = history_key(tenant, model)
        history = self._histories.get(key)
        if history is None:
            stored = self._state.get(key)
            history = self._histories[key] = History.decode(stored) if stored else History()
        if change:
            self._learned.add(key)
        return history

    def reservation(self, key: ReservationKey) -> Reservation | None:
        stored = self._state.get(key.encode())
        return Reservation.decode(stored) if stored else None

    def reserve(self, key: ReservationKey, reservation: Reservation | None) -> None:
        """None forgets it."""
        self._state.put(key.encode(), reservation.encode() if reservation else None)

    def reserved(self, tenant: str, after: bytes, accepted_before: int, most: int) -> list[bytes]:
        """Keys of the oldest reservations that are older than that, and come after that key."""
        start = after + b"\0" if after else ReservationKey.start(tenant)
        return [key for key, _ in self._state.scan(start, ReservationKey.start(tenant, accepted_before), most)]

    def stored_accounts(self, tenant: str, most: int) -> Iterator[tuple[str, Whose, Account]]:
        """What was written before this batch, of one tenant or (empty) of all: each tenant's own accounts first."""
        start, stop = (_tenant_key(tenant), _tenant_key(tenant) + b"\0") if tenant else (b"t\0", b"t\1")
        for key, value in self._state.scan(start, stop, most):
            yield key[2:].decode(), TENANT, Tenant.decode(value).account
        start, stop = (f"u\0{tenant}\0".encode(), f"u\0{tenant}\1".encode()) if tenant else (b"u\0", b"u\1")
        for key, value in self._state.scan(start, stop, most):
            yield *_whose(key), Account.decode(value)

    def close(self) -> None:
        """Write what this batch changed; nothing may be asked of the book afterwards."""
        if self._now:
            self._forget_accounts()
        for key, account in self._accounts.items():
            self._state.put(key, None if is_empty(account, self._now) else account.encode())
        for key in self._learned:
            self._state.put(key, self._histories[key].encode())
        for name, tenant in self._tenants.items():
            self._state.put(_tenant_key(name), tenant.encode())

    def _forget_accounts(self) -> None:
        """A bounded look for what says nothing any more, its day or month being over."""
        stored = self._state.get(_SEARCH)
        search_at, after = orjson.loads(stored) if stored else (0, "")
        if self._now < search_at:
            return
        start = bytes.fromhex(after) + b"\0" if after else b"u\0"
        rows = self._state.scan(start, b"u\1", _SEARCH_MOST)
        for key, value in rows:
            if key not in self._accounts and is_empty(Account.decode(value), self._now):
                self._state.put(key, None)
        through = len(rows) < _SEARCH_MOST
        again_at = self._now + _SEARCH_EVERY_MS if through else self._now
        self._state.put(_SEARCH, orjson.dumps([again_at, "" if through else rows[-1][0].hex()]))


def account_key(tenant: str, whose: Whose) -> bytes:
    return b"u\0%b\0%b" % (tenant.encode(), orjson.dumps([*whose]))


def history_key(tenant: str, model: str) -> bytes:
    return f"m\0{tenant}\0{model}".encode()


def _tenant_key(name: str) -> bytes:
    return f"t\0{name}".encode()


def _whose(key: bytes) -> tuple[str, Whose]:
    _, tenant, whose = key.split(b"\0", 2)
    return tenant.decode(), Whose(*orjson.loads(whose))
