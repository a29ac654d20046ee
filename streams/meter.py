"""Meter: a request reserves what it may use of every limit that it comes under, or is turned away.

One owner per tenant, so concurrent requests can't all pass the same check. A record at or below the applied offset has
been decided before: what it opened goes on again as it was, what it was refused is refused again, and nothing is taken
twice, whatever the limits are by then.
"""

from contracts.cascade import read_cascade
from contracts.completion import Completion
from contracts.envelope import Admitted
from contracts.errors import InvalidRequest, error_body
from contracts.headers import RawHeaders
from contracts.keys import RequestKey
from contracts.outcomes import Outcome
from contracts.topics import TENANT_TABLE, Topics
from streams.dead_letters import dead_letter
from streams.limits.account import Need
from streams.limits.admission import Place, Shortage, budget_used, refresh, shortage, take, tell
from streams.limits.forecast import Forecast
from streams.limits.policy import Policy
from streams.limits.question import answer
from streams.metrics import admitted, refused
from streams.policy.running import RunningPolicy
from streams.policy.surroundings import Surroundings
from streams.records import Output, Record
from streams.reservation import Choice, Hold, Reservation, ReservationKey
from streams.reservations import Reservations
from streams.route import Refusal, Route
from streams.stage import House, Stage
from streams.state import State
from streams.tenants import Book

STAGE = "meter"


def meter(house: House) -> Stage:
    """Admits, from `admitted`. Its state goes first: after a crash, usage may come back in another order and turn away
    what runs already, and then both it and whoever takes its place would use the tenant's tokens."""
    decide = Meter(
        house.topics,
        house.routing or RunningPolicy(house.catalogue, house.prices),
        Forecast(house.catalogue, house.prices),
        house.policy,
        Reservations(house.settings.reservation_ttl_seconds * 1000),
        house.surroundings or Surroundings(house.settings),
    )
    partitions = house.settings.tenant_partitions
    return Stage(
        STAGE,
        house.topics.admitted,
        TENANT_TABLE,
        partitions,
        lambda state: _Batch(house.topics, state, decide),
        state_first=True,
    )


class _Batch:
    def __init__(self, topics: Topics, state: State, meter: "Meter") -> None:
        self._topics = topics
        self._book = Book(state)
        self._meter = meter

    def decide(self, record: Record) -> list[Output]:
        try:
            return self._meter.admit(self._book, record)
        except InvalidRequest as error:
            return [dead_letter(self._topics, STAGE, record, error.message)]

    def close(self) -> None:
        self._book.close()


class Meter:
    def __init__(
        self,
        topics: Topics,
        router: RunningPolicy,
        forecast: Forecast,
        policy: Policy,
        reservations: Reservations,
        surroundings: Surroundings,
    ) -> None:
        self._topics = topics
        self._router = router
        self._forecast = forecast
        self._policy = policy
        self._reservations = reservations
        self._surroundings = surroundings

    def admit(self, book: Book, record: Record) -> list[Output]:
        """One record of `admitted`. Raises InvalidRequest when it isn't what dedupe writes."""
        if not record.value:  # a request has a body
            return [answer(book, self._policy, self._topics, record)]
        request = Admitted.from_headers(record.headers)
        name = RequestKey.decode(request.request_key.encode()).tenant
        tenant = self._reservations.tenant(book, name, record)
        again = record.offset <= tenant.admitted
        tenant.admitted = max(tenant.admitted, record.offset)
        key = ReservationKey(name, request.accepted_at, request.claim)
        held = book.reservation(key)
        if held and _over(held, record, again=again):
            return []
        if held and again:
            return [self._go_on(record, request, held)]
        places = self._places(book, name, request)
        refresh(places, tenant.at)
        return [self._decide(book, record, request, key, places, again=again)]

    def _decide(
        self, book: Book, record: Record, request: Admitted, key: ReservationKey, places: list[Place], *, again: bool
    ) -> Output:
        now = book.tenant(key.tenant, 0).at
        conditions = self._surroundings.conditions(request, record, budget_used(places))
        route = self._router.choose(request, record.value, record.timestamp, conditions)
        if isinstance(route, Refusal):
            return self._reject(record, request, None, route, tell(places, now))
        need = self._need(book, key.tenant, request, route.model, record.timestamp)
        if route.cascade:
            second = self._need(book, key.tenant, request, read_cascade(route.cascade).model, record.timestamp)
            either = need.or_more(second)
            if shortage(places, either, now):
                route = route._replace(cascade="")  # there is enough for the first attempt at the most
            else:
                need = either
        short = shortage(places, need, now)
        if short or again:
            refusal = _refusal(short, key.tenant, now) if short else _AGAIN
            return self._reject(record, request, route, refusal, tell(places, now))
        take(places, need)
        route = route._replace(starts_at=conditions.starts_at(route.model, record.timestamp))
        self._surroundings.sent(request, route, need.tokens, record.seen_at)
        choice = Choice(route, self._router.version)
        opened = Reservation(
            offset=record.offset,
            need=need,
            admitted_at=record.seen_at,
            at=now,
            until=self._reservations.until(now),
            estimate=request.prompt_estimate,
            capped=request.max_tokens is not None,
            charges=tuple([place.held.charge for place in places]),
            choice=choice,
            rate_limits=tell(places, now),
        )
        book.reserve(key, opened)
        return self._work(record, request, opened, choice)

    def _need(self, book: Book, tenant: str, request: Admitted, model: str, at: int) -> Need:
        return self._forecast.need(model, request, book.history(tenant, model), at)

    def _go_on(self, record: Record, request: Admitted, held: Reservation) -> Output:
        """As it was decided; an older release of this program has kept less."""
        if held.choice:
            return self._work(record, request, held, held.choice)
        route = self._router.choose(request, record.value, record.timestamp)
        if isinstance(route, Refusal):
            return self._reject(record, request, None, route, "")
        return self._work(record, request, held, Choice(route, self._router.version))

    def _places(self, book: Book, tenant: str, request: Admitted) -> list[Place]:
        holding = self._policy.holding(tenant, request.user, request.feature, request.api_key_id)
        return [Place(book.account(tenant, held.whose), held) for held in holding]

    def _work(self, record: Record, request: Admitted, held: Reservation, choice: Choice) -> Output:
        headers = [
            *record.headers,
            *_routed(choice.route, choice.router_version),
            ("reserved-tokens", str(held.need.tokens).encode()),
            ("admitted-at", str(held.admitted_at).encode()),
            ("rate-limits", held.rate_limits.encode()),
            ("turn", str(record.offset).encode()),
            *_told(choice.route),
        ]
        if choice.route.cascade:
            headers.append(("cascade", choice.route.cascade.encode()))
        if choice.route.shadow:
            headers.append(("shadow", choice.route.shadow.encode()))
        admitted(choice.route.model, request.lane, choice.route.rule, held.need.tokens)
        topic = self._topics.work(choice.route.model, request.lane)
        return Output(topic, request.request_key.encode(), record.value, headers)

    def _reject(
        self, record: Record, request: Admitted, route: Route | None, refusal: Refusal, rate_limits: str
    ) -> Output:
        refused(refusal.code, refusal.param)
        ended = Completion(
            outcome=Outcome.REJECTED,
            status=refusal.status,
            finished_at=record.timestamp,
            retry_after_ms=refusal.retry_after_ms,
        )
        routed = _routed(route, self._router.version) if route else []
        headers = [*record.headers, *routed, *ended.to_headers(), ("rate-limits", rate_limits.encode())]
        body = error_body(refusal.message, refusal.type, refusal.code, refusal.param)
        return Output(self._topics.completions, request.request_key.encode(), body, headers)


def _routed(route: Route, router_version: str) -> RawHeaders:
    return [
        ("model", route.model.encode()),
        ("route", route.rule.encode()),
        ("complexity", str(route.complexity).encode()),
        ("router-version", router_version.encode()),
    ]


def _told(route: Route) -> RawHeaders:
    """What few requests have something to say of."""
    said = {"fallback-from": route.fallback_from, "fallback-reason": route.fallback_reason}
    starts = [("estimated-start", str(route.starts_at).encode())] if route.starts_at else []
    return [(name, text.encode()) for name, text in said.items() if text] + starts


def _over(held: Reservation, record: Record, *, again: bool) -> bool:
    """Whether this record needn't go on: its claim went on with another record, or has been settled."""
    if held.hold is Hold.SETTLED:
        return True
    return held.offset != record.offset and (again or held.hold is Hold.OPEN)


def _refusal(short: Shortage, tenant: str, now: int) -> Refusal:
    message = short.explain(tenant, now)
    if short.wait_ms is None:
        return Refusal(400, "request_exceeds_limit", message, short.measure.name)
    return Refusal(429, "rate_limit_exceeded", message, short.measure.name, short.wait_ms, "rate_limit_error")


_AGAIN = Refusal(
    429, "rate_limit_exceeded", "Rate limit reached. It may be tried again now.", "tokens", 1, "rate_limit_error"
)
