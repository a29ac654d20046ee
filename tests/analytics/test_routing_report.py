"""What the router is worth equals what the events, the price table and the feedback say."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest

from analytics.clickhouse import Client
from analytics.dashboard.sql_text import readable
from analytics.ledger import Ledger
from analytics.query_engine import Query, QueryEngine
from analytics.routing_report import BINS, RoutingReport, largest, references, thresholds
from contracts.catalogue import load_catalogue
from contracts.errors import InvalidRequest
from contracts.policy_record import with_threshold
from contracts.prices import load_prices
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind
from tests.analytics.test_spending import ask
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
SINCE, UNTIL = datetime(2026, 11, 1, 6, tzinfo=UTC), datetime(2026, 11, 22, 9, tzinfo=UTC)
PRICES = load_prices()


def report(tenant: str = "") -> RoutingReport:
    return RoutingReport(tenant, SINCE, UNTIL, "large", PRICES)


def routed(made: DemoLedger, tenant: str = "") -> list[UsageEvent]:
    """Requests and adjustments of those that left the choice to the router."""
    first, last = SINCE.timestamp() * 1000, UNTIL.timestamp() * 1000
    kinds = (UsageKind.USAGE, UsageKind.ADJUSTMENT)
    return [
        e
        for e in made.events
        if first <= e.event_time < last
        and e.kind in kinds
        and e.requested_model.startswith("auto")
        and e.model
        and e.tenant == (tenant or e.tenant)
    ]


def at_large(event: UsageEvent) -> int:
    price = PRICES.find("large", "", event.event_time)
    if price is None or event.kind is not UsageKind.USAGE or not event.outcome.billed:
        return 0
    return price.cost(event.prompt_tokens, event.cached_tokens, event.completion_tokens)


@pytest.mark.parametrize("tenant", ["", "globex"])
def test_shares_cost_and_quality_by_route(demo: Demo, tenant: str) -> None:
    client, made = demo
    wanted: defaultdict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for event in routed(made, tenant):
        line = wanted[event.route, event.model]
        score = made.scores.get((event.tenant, event.idempotency_key)) if event.kind is UsageKind.USAGE else None
        added = (
            event.kind is UsageKind.USAGE,
            event.cost_nano,
            at_large(event),
            score is not None,
            (score or 0) >= 0.5,
        )
        wanted[event.route, event.model] = [a + int(b) for a, b in zip(line, added, strict=True)]
    columns = ("requests", "cost_nano", "large_nano", "judged", "good")
    rows = ask(client, report(tenant).shares(client))
    assert {(row["route"], row["model"]): [row[name] for name in columns] for row in rows} == dict(wanted)
    assert {route for route, _ in wanted} == {"simple", "complex", "cheapest"}


def test_over_time(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, report().over_time(client, "day"))
    events = routed(made)
    assert sum(row["requests"] for row in rows) == len([e for e in events if e.kind is UsageKind.USAGE])
    assert sum(row["large_requests"] for row in rows) == len(
        [e for e in events if e.model == "large" and e.kind is UsageKind.USAGE]
    )
    assert sum(row["spent_nano"] for row in rows) == sum(e.cost_nano for e in events)
    assert sum(row["large_nano"] for row in rows) == sum(at_large(e) for e in events)
    with pytest.raises(InvalidRequest):
        report().over_time(client, "day, sleep(3)")


def test_the_histogram_has_every_score_once(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, report().scores())
    wanted: defaultdict[tuple[int, str], int] = defaultdict(int)
    for event in routed(made):
        if event.requested_model == "auto" and event.kind is UsageKind.USAGE:
            wanted[min(BINS - 1, int(event.complexity * BINS)), event.model] += 1
    assert {(row["bin"], row["model"]): row["requests"] for row in rows} == dict(wanted)


def test_a_tenants_report_has_nobody_elses(demo: Demo) -> None:
    client, made = demo
    rows = ask(client, report("northwind").scores())
    own = [e for e in routed(made, "northwind") if e.requested_model == "auto" and e.kind is UsageKind.USAGE]
    assert sum(row["requests"] for row in rows) == len(own)
    assert ask(client, report("' OR 1 = 1 --").shares(client)) == []


def test_shown_statements_say_the_same_at_the_query_port(demo: Demo, demo_settings: Settings) -> None:
    client, _ = demo
    engine = QueryEngine(demo_settings)
    for sql, parameters in (report().shares(client), report("acme").over_time(client, "day"), report().scores()):
        wanted = client.raw_query(sql, parameters=parameters, fmt="JSONCompactEachRow")
        assert engine.ask(Query(readable(sql, parameters), "JSONCompactEachRow")).body == wanted != b""
    engine.close()


def test_escalations_by_route_and_reason(ledger: Ledger) -> None:
    """Two requests by one route, the first answer to one of which did not stand."""
    for number, (kind, route, reason, unbilled) in enumerate(
        [
            ("usage", "cascade", "", 0),
            ("usage", "cascade", "", 0),
            ("escalated", "cascade", "unsure", 7),
            ("usage", "simple", "", 0),
        ]
    ):
        row = [str(number), SINCE, kind, "acme", route, "small", reason, unbilled]
        names = ["event_id", "event_time", "kind", "tenant", "route", "model", "escalated", "unbilled_nano"]
        ledger.client.insert("usage", [row], column_names=names)
    (found,) = ask(ledger.client, report().escalations())
    assert found == {
        "route": "cascade",
        "model": "small",
        "escalated": "unsure",
        "attempts": 1,
        "rate": 0.5,
        "unbilled_nano": 7,
    }
    assert ask(ledger.client, report("globex").escalations()) == []


def test_shadow_runs_by_route_and_model(ledger: Ledger) -> None:
    """Two that compare, one that failed; a request is none."""
    names = ["event_id", "event_time", "kind", "tenant", "route", "model", "shadow_of", "agreement", "unbilled_nano"]
    for number, agreement in enumerate(["same", "other", ""]):
        row = [str(number), SINCE, "shadow", "acme", "simple", "large", "small", agreement, 7]
        ledger.client.insert("usage", [row], column_names=names)
    ledger.client.insert("usage", [["3", SINCE, "usage", "acme", "simple", "small", "", "", 0]], column_names=names)
    (found,) = ask(ledger.client, report().shadows())
    assert found == {
        "route": "simple",
        "shadow_of": "small",
        "model": "large",
        "runs": 3,
        "compared": 2,
        "same": 1,
        "not_billed_nano": 21,
    }
    assert ask(ledger.client, report("globex").shadows()) == []


def test_a_large_model_without_a_price(demo: Demo) -> None:
    client, _ = demo
    with pytest.raises(InvalidRequest, match="no model 'huge'"):
        RoutingReport("", SINCE, UNTIL, "huge", PRICES).shares(client)


def test_the_policys_largest_model_and_thresholds() -> None:
    catalogue = load_catalogue()
    assert largest(catalogue) == "large"
    assert (thresholds(catalogue), references(catalogue)) == ({"simple": 0.4}, {})
    by_cost = with_threshold(catalogue, "simple", 1.25, 900)
    assert (thresholds(by_cost), references(by_cost)) == ({"simple": 1.25}, {"simple": 900})
