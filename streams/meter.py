"""Meter: a request reserves its estimated tokens from its tenant's bucket, and its usage settles for the real ones.

One owner per tenant, so concurrent requests can't all pass the same check. A record at or below the applied offset has
been decided before: what it opened goes on again, what it was refused is refused again, and nothing is taken twice.
"""

from collections.abc import Callable

from contracts.completion import Completion
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest, error_body
from contracts.headers import RawHeaders
from contracts.keys import RequestKey
from contracts.outcomes import Outcome
from contracts.topics import TENANT_TABLE, Topics
from contracts.usage import UsageEvent, UsageKind
from streams.dead_letters import dead_letter
from streams.records import Output, Record
from streams.route import Refusal, Route, Router
from streams.stage import House, Stage
from streams.state import State
from streams.tenants import Book, Hold, Reservation, ReservationKey, Tenant

STAGE = "meter"
_SWEEP_EVERY_MS = 10_000
_SWEEP_MOST = 20  # reservations that one event looks at
_KEPT_RELEASED = 24  # times its life: for a usage event that comes late after all
_KEPT_SETTLED_MS = 600_000  # what crashes make come twice comes twice within this, or costs a second, unbilled run


def meter(house: House) -> Stage:
    """Admits, from `admitted`. Its state goes first: after a crash, usage may come back in another order and turn away
    what runs already, and then both it and whoever takes its place would use the tenant's tokens."""
    decide = _meter(house).admit
    partitions = house.settings.tenant_partitions
    return Stage(
        STAGE,
        house.topics.admitted,
        TENANT_TABLE,
        partitions,
        lambda state: _Batch(house.topics, state, decide),
        state_first=True,
    )


def tally(house: House) -> Stage:
    """Settles reservations, from `usage`."""
    decide = _meter(house).settle
    partitions = house.settings.tenant_partitions
    return Stage(
        "tally",
        house.topics.usage,
        TENANT_TABLE,
        partitions,
        lambda state: _Batch(house.topics, state, decide),
    )


class _Batch:
    def __init__(self, topics: Topics, state: State, decide: Callable[[Book, Record], list[Output]]) -> None:
        self._topics = topics
        self._book = Book(state)
        self._decide = decide

    def decide(self, record: Record) -> list[Output]:
        try:
            return self._decide(self._book, record)
        except InvalidRequest as error:
            return [dead_letter(self._topics, STAGE, record, error.message)]

    def close(self) -> None:
        self._book.close()


class Meter:
    """`limit` is each tenant's tokens per minute."""

    def __init__(self, topics: Topics, router: Router, limit: int, reservation_ttl_ms: int) -> None:
        self._topics = topics
        self._router = router
        self._limit = limit
        self._ttl_ms = reservation_ttl_ms

    def admit(self, book: Book, record: Record) -> list[Output]:
        """One record of `admitted`. Raises InvalidRequest when it isn't what dedupe writes."""
        request = Admitted.from_headers(record.headers)
        name = RequestKey.decode(request.request_key.encode()).tenant
        tenant = self._tenant(book, name, record)
        again = record.offset <= tenant.admitted
        tenant.admitted = max(tenant.admitted, record.offset)
        key = ReservationKey(name, request.accepted_at, request.claim)
        held = book.reservation(key)
        if held and _over(held, record, again=again):
            return []
        route = self._router.choose(request, record.value, record.timestamp)
        if isinstance(route, Refusal):
            return [self._reject(record, request, None, route)]
        if held and again:
            return [self._work(record, request, route, held)]
        refusal = self._refusal(tenant, route)
        if refusal or again:
            return [self._reject(record, request, route, refusal or self._busy(tenant, route))]
        opened = Reservation(record.offset, route.tokens, record.seen_at, record.timestamp + self._ttl_ms)
        tenant.bucket = tenant.bucket.taken(route.tokens)
        book.reserve(key, opened)
        return [self._work(record, request, route, opened)]

    def settle(self, book: Book, record: Record) -> list[Output]:
        """One record of `usage`. Raises InvalidRequest when it isn't a usage event."""
        event = _parse(record.value)
        tenant = self._tenant(book, event.tenant, record)
        if record.offset <= tenant.settled:
            return []
        tenant.settled = record.offset
        key = ReservationKey(event.tenant, event.accepted_at, event.claim)
        held = book.reservation(key)
        if held is None or held.hold is Hold.SETTLED:
            return []  # settle publishes again after a crash; or it was turned away, and never had one
        if event.kind is UsageKind.WASTE:
            self._release(book, tenant, key, held)
            return []
        used = event.prompt_tokens + event.completion_tokens if event.outcome.billed else 0
        held_tokens = held.tokens if held.hold is Hold.OPEN else 0
        tenant.bucket = tenant.bucket.given(held_tokens - used, self._limit)
        book.reserve(key, held._replace(hold=Hold.SETTLED, until=tenant.bucket.at + _KEPT_SETTLED_MS))
        if event.outcome.billed:
            book.count(event)
        return []

    def _tenant(self, book: Book, name: str, record: Record) -> Tenant:
        """The tenant as of this record's time: refilled, and without what has expired."""
        tenant = book.tenant(name, self._limit, record.timestamp)
        tenant.bucket = tenant.bucket.refilled(self._limit, record.timestamp)
        if tenant.bucket.at >= tenant.sweep_at:
            self._sweep(book, name, tenant)
        return tenant

    def _sweep(self, book: Book, name: str, tenant: Tenant) -> None:
        """A bounded look: the next event goes on where this one stopped."""
        now = tenant.bucket.at
        young = now - min(self._ttl_ms, _KEPT_SETTLED_MS) + 1
        keys = book.reserved(name, tenant.swept_to, young, _SWEEP_MOST)
        for encoded in keys:
            key = ReservationKey.decode(encoded)
            held = book.reservation(key)
            if held and now >= held.until:
                if held.hold is Hold.OPEN:
                    self._release(book, tenant, key, held)
                else:
                    book.reserve(key, None)
        through = len(keys) < _SWEEP_MOST
        tenant.swept_to = b"" if through else keys[-1]
        tenant.sweep_at = now + _SWEEP_EVERY_MS if through else now

    def _release(self, book: Book, tenant: Tenant, key: ReservationKey, held: Reservation) -> None:
        """Give back, but remember: usage may follow its own waste after a crash, or come when all hope is gone."""
        if held.hold is Hold.OPEN:
            tenant.bucket = tenant.bucket.given(held.tokens, self._limit)
            until = tenant.bucket.at + _KEPT_RELEASED * self._ttl_ms
            book.reserve(key, held._replace(hold=Hold.RELEASED, until=until))

    def _refusal(self, tenant: Tenant, route: Route) -> Refusal | None:
        if route.tokens > self._limit:
            message = (
                f"This request may use {route.tokens} tokens, which can never fit your limit of {self._limit} per "
                "minute; shorten the prompt or lower max_tokens."
            )
            return Refusal(400, "request_exceeds_limit", message, "max_tokens")
        return self._busy(tenant, route) if tenant.bucket.wait_ms(route.tokens, self._limit) else None

    def _busy(self, tenant: Tenant, route: Route) -> Refusal:
        wait_ms = tenant.bucket.wait_ms(route.tokens, self._limit)
        message = (
            f"Rate limit reached: {self._limit} tokens per minute, and this request may use {route.tokens}. "
            f"Try again in {wait_ms / 1000:.3f} s."
        )
        return Refusal(429, "rate_limit_exceeded", message, "tokens", wait_ms, "rate_limit_error")

    def _work(self, record: Record, request: Admitted, route: Route, held: Reservation) -> Output:
        headers = [
            *record.headers,
            *self._routed(route),
            ("reserved-tokens", str(held.tokens).encode()),
            ("admitted-at", str(held.admitted_at).encode()),
        ]
        return Output(self._topics.work(route.model, request.lane), request.request_key.encode(), record.value, headers)

    def _reject(self, record: Record, request: Admitted, route: Route | None, refusal: Refusal) -> Output:
        ended = Completion(
            outcome=Outcome.REJECTED,
            status=refusal.status,
            finished_at=record.timestamp,
            retry_after_ms=refusal.retry_after_ms,
        )
        headers = [*record.headers, *(self._routed(route) if route else []), *ended.to_headers()]
        body = error_body(refusal.message, refusal.type, refusal.code, refusal.param)
        return Output(self._topics.completions, request.request_key.encode(), body, headers)

    def _routed(self, route: Route) -> RawHeaders:
        return [
            ("model", route.model.encode()),
            ("route", route.rule.encode()),
            ("complexity", str(route.complexity).encode()),
            ("router-version", self._router.version.encode()),
        ]


def _meter(house: House) -> Meter:
    settings = house.settings
    router = Router(house.catalogue, house.prices)
    return Meter(house.topics, router, settings.tokens_per_minute, settings.reservation_ttl_seconds * 1000)


def _over(held: Reservation, record: Record, *, again: bool) -> bool:
    """Whether this record needn't go on: its claim went on with another record, or has been settled."""
    if held.hold is Hold.SETTLED:
        return True
    return held.offset != record.offset and (again or held.hold is Hold.OPEN)


def _parse(value: bytes) -> UsageEvent:
    try:
        return UsageEvent.model_validate_json(value)
    except ValueError:
        raise InvalidRequest("The value is not a usage event.") from None
