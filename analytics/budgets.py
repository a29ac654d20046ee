"""Money budgets against the ledger: what is used of each, what is left day by day, and when it will be gone.

The forecast is plain, so that it can be checked by hand: it goes on at the mean of the last 7 full days (fewer when the
spending began later); its bounds are the cheapest and the dearest of them. Whole weeks, so weekends weigh as they do.
Which limit holds for whom is decided as the meter decides it; the meter counts a request on the day on which it was let
through, with what is running, and the ledger when it ended. All money is integer nano-dollars, time UTC.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any, Literal, NamedTuple

from analytics.clickhouse import Client
from analytics.questions import Question, utc_ms
from analytics.spending import Statement
from contracts.limits import EACH, Limit, Selector

Figure = Literal["dollars_per_day", "dollars_per_month"]
Kind = tuple[bool, bool, bool]  # whether a limit looks at the user, the feature, the API key
MONEY: tuple[Figure, ...] = ("dollars_per_month", "dollars_per_day")
TENANTS: Kind = (False, False, False)
BASIS_DAYS = 7
_DAY = timedelta(days=1)
_DAY_MS = 86_400_000


class Account(NamedTuple):
    """Whose: None where it makes no difference, as in a Selector."""

    tenant: str
    user: str | None = None
    feature: str | None = None
    api_key: str | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """For the end of the budget's period, if it goes on as in `days` days: the mean, the cheapest and the dearest."""

    days: int
    expected_nano: int
    low_nano: int
    high_nano: int
    daily_nano: int
    gone_at: datetime | None  # within the period, by the mean


@dataclass(frozen=True, slots=True)
class Budget:
    account: Account
    figure: Figure
    limit_nano: int
    used_nano: int
    begins: datetime
    ends: datetime
    forecast: Forecast | None  # none before there is a full day

    @property
    def share(self) -> float:
        """Of the limit; a limit of 0 is used up."""
        return self.used_nano / self.limit_nano if self.limit_nano else 1.0


Days = Mapping[date, int]  # nano-dollars


def kind_of(selector: Selector) -> Kind:
    return selector.user is not None, selector.feature is not None, selector.api_key is not None


def money_kinds(limits: Iterable[Limit]) -> list[Kind]:
    """Whole tenants first, then each other kind of account that has a budget."""
    having = (limit for limit in limits if any(getattr(limit, name) is not None for name in MONEY))
    return sorted({TENANTS, *(kind_of(limit.selector) for limit in having)})


def figure_for(limits: Mapping[Selector, Limit], account: Account, figure: Figure) -> int | None:
    """Nano-dollars, or None without a limit. From the most general to the most particular limit of the account's kind,
    each that gives the figure takes the place of the one before."""
    keys, users, features = (_choices(name) for name in (account.api_key, account.user, account.feature))
    found: int | str | None = None
    for tenant, key, user, feature in product((EACH, account.tenant), keys, users, features):
        limit = limits.get(Selector(tenant, user, feature, key))
        given = getattr(limit, figure) if limit else None
        found = given if given is not None else found
    return found if isinstance(found, int) else None


def spending_by_day(tenant: str, kinds: Iterable[Kind], now: datetime) -> Statement:
    """Each account's cost by day: this month's, and as many days before as a forecast looks back on. An account$
    has NULL where its kind doesn't look. `tenant`: whose alone; "" for everybody's."""
    pieces: list[str] = []
    parameters: dict[str, Any] = {}
    for kind in kinds:
        names = ("tenant", *(name for name, looks in zip(_NAMES, kind, strict=True) if looks))
        only = {"tenant": tenant} if tenant else {}
        inner, used = Question(("day", *names), looks_back_to(now), None, only).sql({"nano": _COST}, order="nano DESC")
        columns = [f"d{names.index(name) + 1} AS {name}" if name in names else f"NULL AS {name}" for name in _NAMES]
        pieces.append(f"SELECT d0 AS day, d1 AS tenant, {', '.join(columns)}, nano AS cost_nano FROM ({inner})")  # noqa: S608
        parameters |= used
    order = ", ".join(("tenant", *_NAMES, "day"))
    return f"SELECT * FROM ({' UNION ALL '.join(pieces)}) ORDER BY {order}", parameters  # noqa: S608


_NAMES = ("user", "feature", "api_key_id")
_COST = "sumIf(n_nano, kind != 'waste')"


def read_days(client: Client, statement: Statement) -> dict[Account, Days]:
    """Blocking: what `spending_by_day` asks. Raises ClickHouseError."""
    found: defaultdict[Account, dict[date, int]] = defaultdict(dict)
    for day, tenant, user, feature, api_key, nano in client.query(statement[0], parameters=statement[1]).result_rows:
        found[Account(tenant, user, feature, api_key)][day] = nano
    return dict(found)


def budgets(
    tenant: str, limits: Mapping[Selector, Limit], spent: Mapping[Account, Days], now: datetime
) -> list[Budget]:
    """Of the accounts that have spent, and of those that a limit names; the nearest to its limit first. `tenant`: whose
    alone; "" for everybody's."""
    named = {Account(*limit.selector) for limit in limits.values()}
    accounts = {*spent, *(account for account in named if EACH not in account)}
    found = [
        budget(account, figure, limit, spent.get(account, {}), now)
        for account in accounts
        if account.tenant == (tenant or account.tenant)
        for figure in MONEY
        if (limit := figure_for(limits, account, figure)) is not None
    ]
    return sorted(found, key=lambda one: (-one.share, str(one.account), one.figure))


def budget(account: Account, figure: Figure, limit: int, days: Days, now: datetime) -> Budget:
    month = figure == "dollars_per_month"
    begins = month_begins(now) if month else midnight(now)
    ends = month_ends(now) if month else begins + _DAY
    used = sum(nano for day, nano in days.items() if begins.date() <= day < ends.date())
    return Budget(account, figure, limit, used, begins, ends, forecast(days, used, limit, now, ends))


def forecast(days: Days, used: int, limit: int | None, now: datetime, ends: datetime) -> Forecast | None:
    """None before there is a full day to go by."""
    basis = basis_of(days, now)
    if not basis:
        return None
    left_ms = utc_ms(ends) - utc_ms(now)
    expected, low, high = (used + daily * left_ms // _DAY_MS for daily in (_mean(basis), min(basis), max(basis)))
    return Forecast(len(basis), expected, low, high, _mean(basis), _gone_at(limit, used, _mean(basis), now, ends))


def basis_of(days: Days, now: datetime) -> list[int]:
    """The cost of each of the last full days, since there was any; a day without spending counts as 0."""
    today = now.astimezone(UTC).date()
    first = max(min(days, default=today), today - BASIS_DAYS * _DAY)
    return [days.get(first + number * _DAY, 0) for number in range((today - first).days)]


def _mean(basis: Sequence[int]) -> int:
    return sum(basis) // len(basis)


def _gone_at(limit: int | None, used: int, daily: int, now: datetime, ends: datetime) -> datetime | None:
    if limit is None:
        return None
    if used >= limit:
        return now
    wait_ms = (limit - used) * _DAY_MS // daily if daily > 0 else None
    if wait_ms is None or wait_ms >= utc_ms(ends) - utc_ms(now):
        return None
    return now + timedelta(milliseconds=wait_ms)


class Point(NamedTuple):
    """Used since the budget's period began, as it was, or as forecast: then with the bounds."""

    at: datetime
    used_nano: int
    low_nano: int | None = None
    high_nano: int | None = None


def burned(days: Days, begins: datetime, now: datetime) -> list[Point]:
    """As it was: at the end of each day, and now."""
    points, used, day = [Point(begins, 0)], 0, begins
    while day < now:
        used += days.get(day.date(), 0)
        day += _DAY
        points.append(Point(min(day, now), used))
    return points


def expected(days: Days, used: int, now: datetime, ends: datetime) -> list[Point]:
    """As it may go on: now, and at the end of each day; nothing before there is a full day to go by."""
    moments = [now, *(day for number in range(1, 32) if (day := midnight(now) + number * _DAY) <= ends)]
    found = [(moment, forecast(days, used, None, now, moment)) for moment in moments]
    return [Point(at, one.expected_nano, one.low_nano, one.high_nano) for at, one in found if one]


def midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def looks_back_to(now: datetime) -> datetime:
    """The month's begin, or as far as a forecast looks back."""
    return min(month_begins(now), midnight(now) - BASIS_DAYS * _DAY)


def month_begins(now: datetime) -> datetime:
    return midnight(now).replace(day=1)


def month_ends(now: datetime) -> datetime:
    return (month_begins(now) + timedelta(days=31)).replace(day=1)


def _choices(name: str | None) -> tuple[str | None, ...]:
    """`*` is each name that there is; a request without one is limited by a limit on no name alone."""
    if name is None:
        return (None,)
    return (EACH, name) if name else (name,)
