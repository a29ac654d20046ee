"""A budget's figures are the ledger's, its limit the one that the meter holds, its forecast can be done by hand."""

from datetime import UTC, date, datetime, timedelta
from itertools import product

import pytest

from analytics.budgets import (
    Account,
    basis_of,
    budgets,
    burned,
    expected,
    figure_for,
    forecast,
    money_kinds,
    read_days,
    spending_by_day,
)
from analytics.clickhouse import Client
from contracts.limits import Limit, parse_limits
from contracts.usage import UsageKind
from streams.limits.policy import Policy
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENDS = datetime(2026, 12, 1, tzinfo=UTC)
DOLLAR = 1_000_000_000
LIMITS = """
[[limit]]
dollars_per_month = "80"

[[limit]]
tenant = "acme"
dollars_per_month = "40"

[[limit]]
tenant = "globex"
dollars_per_month = "unlimited"
dollars_per_day = "3"

[[limit]]
user = "*"
dollars_per_month = "5"

[[limit]]
tenant = "acme"
user = "ann"
dollars_per_month = "12.50"

[[limit]]
tenant = "acme"
feature = "not-used-yet"
dollars_per_day = "2"

[[limit]]
tenant = "initech"
tokens_per_day = 5
"""
BY_SELECTOR = {limit.selector: limit for limit in parse_limits(LIMITS, "limits.toml")}


def test_the_limit_is_the_one_that_the_meter_holds() -> None:
    policy = Policy(Limit(tokens_per_minute=1))
    policy.apply([(selector.encode(), limit.encode()) for selector, limit in BY_SELECTOR.items()])
    names = {"user": (None, "", "ann", "ben"), "feature": (None, "not-used-yet"), "api_key": (None, "mk_1")}
    for tenant, user, feature, key in product(("acme", "globex", "initech"), *names.values()):
        held = policy.of(tenant, (user, feature, key))  # type: ignore[arg-type]
        limits = {measure.name: limit for measure, limit in held.limits}
        for figure in ("dollars_per_day", "dollars_per_month"):
            account = Account(tenant, user, feature, key)
            assert figure_for(BY_SELECTOR, account, figure) == limits.get(figure), account


def test_what_is_used_is_what_the_ledger_says(demo: Demo) -> None:
    client, made = demo
    kinds = money_kinds(BY_SELECTOR.values())
    spent = read_days(client, spending_by_day("", kinds, made.now))
    found = {(one.account, one.figure): one for one in budgets("", BY_SELECTOR, spent, made.now)}
    month = datetime(2026, 11, 1, tzinfo=UTC).timestamp() * 1000
    bills = [e for e in made.events if e.event_time >= month and e.kind is not UsageKind.WASTE]

    acme = found[Account("acme"), "dollars_per_month"]
    assert (acme.limit_nano, acme.used_nano) == (40 * DOLLAR, sum(e.cost_nano for e in bills if e.tenant == "acme"))
    ann = found[Account("acme", "ann"), "dollars_per_month"]
    mine = sum(e.cost_nano for e in bills if (e.tenant, e.user) == ("acme", "ann"))
    assert (ann.limit_nano, ann.used_nano) == (12_500_000_000, mine)
    today = datetime(2026, 11, 23, tzinfo=UTC).timestamp() * 1000
    globex = found[Account("globex"), "dollars_per_day"]
    assert globex.used_nano == sum(e.cost_nano for e in bills if e.tenant == "globex" and e.event_time >= today)
    assert found[Account("acme", feature="not-used-yet"), "dollars_per_day"].used_nano == 0
    assert (Account("globex"), "dollars_per_month") not in found  # unlimited
    assert (Account("northwind", ""), "dollars_per_month") not in found  # `*` doesn't concern who names no user


def test_a_tenant_sees_only_its_own_budgets(demo: Demo) -> None:
    client, made = demo
    spent = read_days(client, spending_by_day("initech", money_kinds(BY_SELECTOR.values()), made.now))
    found = budgets("initech", BY_SELECTOR, spent, made.now)
    assert {one.account.tenant for one in found} == {"initech"}
    assert Account("initech") in {one.account for one in found}


DAYS = {date(2026, 11, day): day * DOLLAR // 10 for day in range(14, 24)}  # the 14th cost $1.40, the 23rd $2.30 so far


def test_the_forecast_is_the_mean_of_the_last_seven_full_days() -> None:
    assert basis_of(DAYS, NOW) == [day * DOLLAR // 10 for day in range(16, 23)]
    found = forecast(DAYS, 18 * DOLLAR, 40 * DOLLAR, NOW, ENDS)
    assert found
    assert (found.days, found.daily_nano) == (7, 1_900_000_000)
    assert found.expected_nano == 18 * DOLLAR + 7 * 1_900_000_000 + 950_000_000  # seven days and a half
    assert (found.low_nano, found.high_nano) == (30 * DOLLAR, 34_500_000_000)
    assert found.gone_at is None


@pytest.mark.parametrize(
    ("used", "limit", "gone_at"),
    [
        (18, 20, NOW + timedelta(milliseconds=90_947_368)),  # $2 at $1.90 a day
        (20, 20, NOW),
        (21, 20, NOW),
        (0, 0, NOW),
        (0, 100, None),
    ],
)
def test_when_a_budget_is_gone(used: int, limit: int, gone_at: datetime | None) -> None:
    found = forecast(DAYS, used * DOLLAR, limit * DOLLAR, NOW, ENDS)
    assert found
    assert found.gone_at == gone_at


def test_days_without_spending_count_and_days_before_the_first_do_not() -> None:
    days = {date(2026, 11, 20): 3 * DOLLAR, date(2026, 11, 23): DOLLAR}
    assert basis_of(days, NOW) == [3 * DOLLAR, 0, 0]


def test_without_a_full_day_there_is_no_forecast() -> None:
    assert forecast({date(2026, 11, 23): DOLLAR}, DOLLAR, 2 * DOLLAR, NOW, ENDS) is None
    assert expected({}, 0, NOW, ENDS) == []


def test_a_line_from_the_months_begin_to_its_end() -> None:
    begins = datetime(2026, 11, 1, tzinfo=UTC)
    was = burned(DAYS, begins, NOW)
    assert (was[0], was[-1]) == ((begins, 0, None, None), (NOW, sum(DAYS.values()), None, None))
    assert [point.used_nano for point in was] == sorted(point.used_nano for point in was)
    will = expected(DAYS, was[-1].used_nano, NOW, ENDS)
    assert (will[0].at, will[0].used_nano) == (NOW, was[-1].used_nano)
    assert will[-1].at == ENDS
    assert len(will) == 1 + 8
