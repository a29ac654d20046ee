"""Quantiles over time equal those of the events within a hundredth; whole hours come from the projection."""

import statistics
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest

from analytics.clickhouse import Client
from analytics.dashboard.sql_text import readable
from analytics.latency_series import MEASURES, LatencySeries
from analytics.query_engine import Query, QueryEngine
from contracts.errors import InvalidRequest
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from tests.analytics.test_projections import sources
from tests.analytics.test_spending import HOSTILE, ask
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
SINCE, UNTIL = datetime(2026, 11, 3, tzinfo=UTC), datetime(2026, 11, 19, 9, tzinfo=UTC)


def gap(event: UsageEvent) -> float | None:
    if event.first_token_at is None or event.completion_tokens < 2:
        return None
    return (event.finished_at - event.first_token_at) / (event.completion_tokens - 1)


TIMES: dict[str, Callable[[UsageEvent], float | None]] = {
    "ttft": lambda event: event.first_token_at and event.first_token_at - event.accepted_at,
    "gap": gap,
    "queue": lambda event: event.started_at and event.started_at - event.accepted_at,
    "total": lambda event: event.finished_at - event.accepted_at,
}


def within(made: DemoLedger) -> list[UsageEvent]:
    first, last = SINCE.timestamp() * 1000, UNTIL.timestamp() * 1000
    return [e for e in made.events if first <= e.event_time < last and e.kind is UsageKind.USAGE]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("tenant", ["", "acme"])
def test_quantiles_are_those_of_the_events(demo: Demo, measure: str, tenant: str) -> None:
    client, made = demo
    rows = ask(client, LatencySeries(tenant, "day", SINCE, UNTIL, "model", {"lane": "interactive"}).quantiles(measure))
    groups: defaultdict[tuple[str, date], list[UsageEvent]] = defaultdict(list)
    for event in within(made):
        if event.lane == "interactive" and event.tenant == (tenant or event.tenant):
            groups[event.model, datetime.fromtimestamp(event.event_time / 1000, UTC).date()].append(event)
    assert {(row["model"], row["day"]): row["requests"] for row in rows} == {k: len(some) for k, some in groups.items()}
    for row in rows:
        some = groups[row["model"], row["day"]]
        times = sorted(time for e in some if (time := TIMES[measure](e)) is not None)
        for name, quantile in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            near = (
                [times[min(len(times) - 1, max(0, int(quantile * (len(times) - 1)) + step))] for step in (0, 1)]
                if times
                else []
            )
            assert not near or near[0] * 0.98 <= row[name] <= near[1] * 1.02
    assert {row["model"] for row in rows} >= {"small", "large"}


def test_tokens_are_counted_when_a_request_ends(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, LatencySeries("", "hour", SINCE, UNTIL).pace())
    assert sum(row["completion_tokens"] for row in rows) == sum(e.completion_tokens for e in within(made))
    assert all(row["tokens_per_second"] == pytest.approx(row["completion_tokens"] / 3600) for row in rows)


def test_the_period_in_one(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, LatencySeries("", "hour", SINCE, UNTIL).whole())
    assert sum(row["requests"] for row in rows) == len(within(made))
    large = next(row for row in rows if (row["model"], row["lane"]) == ("large", "interactive"))
    waits = [TIMES["ttft"](e) for e in within(made) if (e.model, e.lane) == ("large", "interactive")]
    assert large["ttft_p50"] == pytest.approx(statistics.median(time for time in waits if time), rel=0.02)


@pytest.mark.parametrize("measure", ["ttft", "queue", "total"])
@pytest.mark.parametrize("resolution", ["hour", "day"])
@pytest.mark.parametrize("split", ["", "model", "lane"])
def test_whole_hours_of_everybody_come_from_the_projection(
    demo: Demo, measure: str, resolution: str, split: str
) -> None:
    client, _ = demo
    assert sources(client, *LatencySeries("", resolution, SINCE, UNTIL, split).quantiles(measure)) == ["latency"]


def test_a_tenant_sees_only_itself(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, LatencySeries("northwind", "day", SINCE, UNTIL).quantiles("total"))
    assert sum(row["requests"] for row in rows) == len([e for e in within(made) if e.tenant == "northwind"])
    with pytest.raises(InvalidRequest):
        LatencySeries("northwind", "day", SINCE, only={"tenant": "acme"})


@pytest.mark.parametrize(
    "asked",
    [
        {"resolution": "month"},
        {"resolution": "hour) --"},
        {"split": "tenant"},
        {"split": "model, user"},
        {"only": {"user": "a"}},
    ],
    ids=str,
)
def test_what_can_not_be_asked_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        LatencySeries(**({"tenant": "", "resolution": "hour", "since": SINCE} | asked))
    with pytest.raises(InvalidRequest):
        LatencySeries("", "hour", SINCE).quantiles("ttft_ms), sleep(3")


@pytest.mark.parametrize("value", [*HOSTILE, "small"])
def test_a_shown_statement_says_the_same_at_the_query_port(demo: Demo, demo_settings: Settings, value: str) -> None:
    client, _ = demo
    engine = QueryEngine(demo_settings)
    series = LatencySeries("", "hour", SINCE, UNTIL, "lane", {"model": value})
    for sql, parameters in (series.quantiles("gap"), series.pace(), series.whole()):
        wanted = client.raw_query(sql, parameters=parameters, fmt="JSONCompactEachRow")
        assert engine.ask(Query(readable(sql, parameters), "JSONCompactEachRow")).body == wanted
        assert (wanted != b"") == (value == "small")
    engine.close()
