"""The cost explorer's figures equal the sums of the events; its statements run as they are shown."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from analytics.clickhouse import Client
from analytics.dashboard.sql_text import readable
from analytics.query_engine import Query, QueryEngine
from analytics.spending import Spending, Statement, begins, resolution_of
from contracts.errors import InvalidRequest
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from tests.analytics.test_projections import sources
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
SINCE, UNTIL = datetime(2026, 10, 30, tzinfo=UTC), datetime(2026, 11, 20, 13, 7, 3, tzinfo=UTC)
HOSTILE = [
    "' OR 1 = 1 --",
    "\\' OR 1 = 1 --",
    "') UNION ALL SELECT * FROM usage --",
    "{tenant:String}",
    'a\nb\t`"',
    "é\\",
]


def ask(client: Client, statement: Statement) -> list[dict[str, Any]]:
    return list(client.query(statement[0], parameters=statement[1]).named_results())


def within(events: list[UsageEvent], since: datetime = SINCE, until: datetime = UNTIL) -> list[UsageEvent]:
    first, last = since.timestamp() * 1000, until.timestamp() * 1000
    return [event for event in events if first <= event.event_time < last and event.kind is not UsageKind.WASTE]


def sums(events: list[UsageEvent], name: Callable[[UsageEvent], Any]) -> dict[Any, int]:
    found = Counter[Any]()
    for event in events:
        found[name(event)] += event.cost_nano
    return dict(found)


@pytest.mark.parametrize(
    "by",
    [("tenant",), ("feature",), ("user",), ("model",), ("tenant", "feature", "model"), ("route",), ("outcome",)],
    ids=str,
)
def test_groups_are_the_sums_of_the_events(demo: Demo, by: tuple[str, ...]) -> None:
    client, made = demo
    events = within(made.events)
    rows = ask(client, Spending("", by, SINCE, UNTIL).groups(10_000))
    wanted = sums(events, lambda event: tuple(str(getattr(event, name)) for name in by))
    assert {tuple(row[name] for name in by): row["cost_nano"] for row in rows} == wanted
    assert {row["all_nano"] for row in rows} == {sum(event.cost_nano for event in events)}
    assert [row["cost_nano"] for row in rows] == sorted((row["cost_nano"] for row in rows), reverse=True)
    assert sum(row["requests"] for row in rows) == len([event for event in events if event.kind is UsageKind.USAGE])


def test_of_many_groups_the_dearest_are_named_and_none_is_forgotten(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, Spending("", ("user",), SINCE, UNTIL).groups(3))
    everybody = sums(within(made.events), lambda event: event.user)
    assert [row["user"] for row in rows] == sorted(everybody, key=lambda name: (-everybody[name], name))[:3]
    assert {(row["all_nano"], row["all_groups"]) for row in rows} == {(sum(everybody.values()), len(everybody))}


@pytest.mark.parametrize("resolution", ["minute", "hour", "day", "month"])
def test_a_series_has_the_dearest_groups_and_the_rest(demo: Demo, resolution: str) -> None:
    client, made = demo
    rows = ask(client, Spending("", ("user",), SINCE, UNTIL).series(resolution, 3))
    events = within(made.events)
    everybody = sums(events, lambda event: event.user)
    dearest = sorted(everybody, key=lambda name: (-everybody[name], name))[:3]

    def slot(event: UsageEvent) -> tuple[Any, str, int]:
        at = begins(datetime.fromtimestamp(event.event_time / 1000, UTC), resolution)
        named = event.user in dearest
        return (at.date() if resolution in ("day", "month") else at, event.user if named else "", int(not named))

    assert {(row[resolution], row["user"], row["rest"]): row["cost_nano"] for row in rows} == sums(events, slot)


def test_a_series_without_groups(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, Spending("acme", (), SINCE).series("day", 7))
    mine = [event for event in within(made.events, until=made.now) if event.tenant == "acme"]
    assert {row["day"]: row["cost_nano"] for row in rows} == sums(
        mine, lambda event: datetime.fromtimestamp(event.event_time / 1000, UTC).date()
    )


def test_a_bar_leads_to_its_requests(demo: Demo) -> None:
    """What a bar shows is what the requests behind it cost together, adjustments and credits among them."""
    client, _ = demo
    day = max(ask(client, Spending("", ("feature",), SINCE, UNTIL).series("day", 7)), key=lambda row: row["cost_nano"])
    since = datetime(day["day"].year, day["day"].month, day["day"].day, tzinfo=UTC)
    only = {"feature": day["feature"]}
    rows = ask(client, Spending("", (), since, since + timedelta(days=1), only).requests(10_000))
    assert sum(row["cost_nano"] for row in rows) == day["cost_nano"]
    assert sum(row["kind"] == "usage" for row in rows) == day["requests"]
    assert [row["cost_nano"] for row in rows] == sorted((row["cost_nano"] for row in rows), reverse=True)


def test_pages_of_requests_follow_each_other(demo: Demo) -> None:
    client, _ = demo
    spending = Spending("globex", (), SINCE, UNTIL)
    pages = [ask(client, spending.requests(40, skip)) for skip in (0, 40)]
    assert pages[0] + pages[1] == ask(client, spending.requests(80))


def test_a_tenant_sees_only_itself(demo: Demo) -> None:
    client, made = demo
    spending = Spending("acme", ("tenant",), SINCE, UNTIL)
    own = sum(event.cost_nano for event in within(made.events) if event.tenant == "acme")
    (row,) = ask(client, spending.groups(100))
    assert (row["tenant"], row["cost_nano"], row["all_nano"], row["all_groups"]) == ("acme", own, own, 1)
    assert {row["tenant"] for row in ask(client, spending.series("day", 7))} == {"acme"}
    assert {row["tenant"] for row in ask(client, spending.requests(10_000))} == {"acme"}
    with pytest.raises(InvalidRequest, match="another tenant"):
        Spending("acme", ("user",), SINCE, UNTIL, {"tenant": "globex"})


@pytest.mark.parametrize(
    "by",
    [
        ("cost",),
        ("day",),
        ("user) FROM usage --",),
        ("",),
        ("tag:",),
        ("tag:a b",),
        ("user", "user"),
        ("tag:a", "tag:b"),
    ],
    ids=str,
)
def test_what_is_no_group_is_refused(by: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest):
        Spending("", by, SINCE)


@pytest.mark.parametrize("resolution", ["second", "day, sleep(3)", "", "tenant"])
def test_what_is_no_resolution_is_refused(resolution: str) -> None:
    with pytest.raises(InvalidRequest):
        Spending("", ("user",), SINCE).series(resolution, 7)


@pytest.mark.parametrize("value", HOSTILE)
def test_a_value_is_only_ever_a_value(demo: Demo, demo_settings: Settings, value: str) -> None:
    client, _ = demo
    engine = QueryEngine(demo_settings)
    spending = Spending("", ("user",), SINCE, UNTIL, {"user": value, f"tag:{''.join(value.split())}": value})
    for statement in (spending.groups(10), spending.series("day", 7), spending.requests(10)):
        assert ask(client, statement) == []
        assert engine.ask(Query(readable(*statement))).body == b""
    engine.close()


@pytest.mark.parametrize(
    ("tenant", "only"), [("", {}), ("acme", {"user": "chloé"}), ("", {"tag:team": "platform"})], ids=str
)
def test_a_shown_statement_says_the_same_at_the_query_port(
    demo: Demo, demo_settings: Settings, tenant: str, only: dict[str, str]
) -> None:
    client, _ = demo
    engine = QueryEngine(demo_settings)
    spending = Spending(tenant, ("feature", "tag:team"), SINCE, UNTIL, only)
    for sql, parameters in (spending.groups(10), spending.series("hour", 3), spending.requests(10)):
        wanted = client.raw_query(sql, parameters=parameters, fmt="JSONCompactEachRow")
        assert engine.ask(Query(readable(sql, parameters), "JSONCompactEachRow")).body == wanted != b""
    engine.close()


@pytest.mark.parametrize(("by", "projection"), [("feature", "daily"), ("model", "daily"), ("user", "users")])
def test_the_common_questions_read_a_projection_alone(demo: Demo, by: str, projection: str) -> None:
    client, _ = demo
    for tenant in ("", "acme"):
        spending = Spending(tenant, (by,), SINCE)
        assert sources(client, *spending.groups(50)) == [projection]
        assert sources(client, *spending.series("day", 7)) == [projection]


@pytest.mark.parametrize(
    ("length", "resolution"),
    [
        (timedelta(minutes=15), "minute"),
        (timedelta(hours=6), "minute"),
        (timedelta(hours=24), "hour"),
        (timedelta(days=7), "hour"),
        (timedelta(days=30), "day"),
        (timedelta(days=90), "day"),
        (timedelta(days=365), "month"),
    ],
)
def test_the_resolution_follows_the_length(length: timedelta, resolution: str) -> None:
    assert resolution_of(UNTIL - length, UNTIL) == resolution


def test_a_chart_begins_with_a_whole_bar() -> None:
    found = [begins(UNTIL, resolution) for resolution in ("minute", "hour", "day", "month")]
    day = date(2026, 11, 20)
    assert found[0] == datetime(day.year, day.month, day.day, 13, 7, tzinfo=UTC)
    assert found[1] == datetime(day.year, day.month, day.day, 13, tzinfo=UTC)
    assert found[2:] == [datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)]
