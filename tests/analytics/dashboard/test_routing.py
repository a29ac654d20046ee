"""Routing: what the page is told equals plain SQL over the ledger, and tenants see only their own."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from analytics.clickhouse import Client
from analytics.ledger import Ledger
from analytics.query_engine import Query, QueryEngine
from contracts.settings import Settings
from tests.analytics.dashboard.test_cost import OTHERS, PERIOD, WHERE
from tests.support.demo_dashboard import ACME, OPERATOR, serving_demo, signed_in
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
ROUTED = "startsWith(requested_model, 'auto') AND model != ''"
ENDPOINTS = ("shares", "over-time", "scores")


async def ask(url: str, what: str, key: str = OPERATOR, **params: Any) -> dict[str, Any]:
    async with signed_in(url, key) as client:
        response = await client.get(f"/api/routing/{what}", params=PERIOD | params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def plain(demo: Demo, columns: str, rest: str) -> list[tuple[Any, ...]]:
    statement = f"SELECT {columns} FROM usage WHERE kind IN ('usage', 'adjustment') AND {ROUTED} AND {WHERE} {rest}"
    return [tuple(row) for row in demo[0].query(statement).result_rows]


async def test_shares(demo: Demo, demo_dashboard: str) -> None:
    rows = (await ask(demo_dashboard, "shares"))["rows"]
    sums = "route, model, countIf(kind = 'usage'), sum(cost_nano)"
    wanted = {row[:2]: (row[2], str(row[3])) for row in plain(demo, sums, "GROUP BY route, model")}
    assert {(row["route"], row["model"]): (row["requests"], row["cost_nano"]) for row in rows} == wanted
    judged = plain(
        demo,
        "count()",
        "AND kind = 'usage' AND (tenant, idempotency_key) IN (SELECT tenant, idempotency_key FROM feedback)",
    )
    assert sum(row["judged"] for row in rows) == judged[0][0]


async def test_over_time(demo: Demo, demo_dashboard: str) -> None:
    answer = await ask(demo_dashboard, "over-time")
    shares = (await ask(demo_dashboard, "shares"))["rows"]
    for one, other in (("spent_nano", "cost_nano"), ("large_nano", "large_nano"), ("requests", "requests")):
        assert sum(int(row[one]) for row in answer["rows"]) == sum(int(row[other]) for row in shares)


async def test_scores_and_the_threshold(demo: Demo, demo_dashboard: str) -> None:
    answer = await ask(demo_dashboard, "scores")
    assert (answer["thresholds"], answer["references"]) == ({"simple": 0.4}, {})
    wanted = plain(demo, "count()", "AND kind = 'usage' AND requested_model = 'auto'")[0][0]
    assert sum(row["requests"] for row in answer["rows"]) == wanted
    small = sum(row["requests"] for row in answer["rows"] if row["bin"] < 0.4 * answer["bins"])
    assert small == plain(demo, "count()", "AND kind = 'usage' AND requested_model = 'auto' AND complexity < 0.4")[0][0]


@pytest.mark.parametrize("what", ENDPOINTS)
async def test_the_shown_statement_runs_and_says_the_same(
    demo: Demo, demo_dashboard: str, demo_settings: Settings, what: str
) -> None:
    answer = await ask(demo_dashboard, what, tenant="globex")
    engine = QueryEngine(demo_settings)
    said = json.loads(engine.ask(Query(answer["sql"], "JSON")).body)["data"]
    engine.close()
    assert [int(row["requests"]) for row in said] == [row["requests"] for row in answer["rows"]] != []


@pytest.mark.parametrize("what", ENDPOINTS)
async def test_a_tenant_sees_only_itself(demo: Demo, demo_dashboard: str, what: str) -> None:
    rows = (await ask(demo_dashboard, what, ACME))["rows"]
    asked = "AND requested_model = 'auto'" if what == "scores" else ""
    wanted = plain(demo, "count()", f"AND kind = 'usage' AND tenant = 'acme' {asked}")[0][0]
    assert sum(row["requests"] for row in rows) == wanted
    async with signed_in(demo_dashboard, ACME) as client:
        for name in OTHERS:
            assert (await client.get(f"/api/routing/{what}", params={"tenant": name})).status_code == 403


async def test_escalations_are_told_with_their_rate_and_their_statement(embedded: Settings, ledger: Ledger) -> None:
    """Of four requests by one route, the first answer to one did not stand; and one of another tenant."""
    columns = ["event_id", "event_time", "kind", "tenant", "route", "model", "escalated", "unbilled_nano"]
    at = datetime(2026, 11, 10, tzinfo=UTC)
    rows = [[str(number), at, "usage", "acme", "cascade", "small", "", 0] for number in range(4)]
    rows.append(["4", at, "escalated", "acme", "cascade", "small", "unsure", 7])
    rows.append(["5", at, "escalated", "globex", "cascade", "small", "length", 9])
    ledger.client.insert("usage", rows, column_names=columns)
    async with serving_demo(embedded) as url:
        everybody = await ask(url, "escalations")
        own = await ask(url, "escalations", ACME)
    assert {row["escalated"]: row["unbilled_nano"] for row in everybody["rows"]} == {"unsure": "7", "length": "9"}
    assert [(row["escalated"], row["attempts"], row["rate"]) for row in own["rows"]] == [("unsure", 1, 0.25)]
    engine = QueryEngine(embedded)
    said = json.loads(engine.ask(Query(own["sql"], "JSON")).body)["data"]
    engine.close()
    assert [(row["escalated"], int(row["unbilled_nano"])) for row in said] == [("unsure", 7)]


@pytest.mark.parametrize("what", ["escalations", "shadows"])
async def test_where_no_second_model_ran_there_is_no_row(demo_dashboard: str, what: str) -> None:
    assert (await ask(demo_dashboard, what))["rows"] == []


async def test_a_model_without_a_price_is_refused(demo_dashboard: str) -> None:
    async with signed_in(demo_dashboard, OPERATOR) as client:
        response = await client.get("/api/routing/shares", params=PERIOD | {"large": "' OR 1 = 1 --"})
    assert response.status_code == 400
