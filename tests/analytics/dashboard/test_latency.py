"""Latency: what the page is told equals plain SQL over the ledger, whose quantiles are exact, within a hundredth."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from analytics.clickhouse import Client
from analytics.query_engine import Query, QueryEngine
from contracts.settings import Settings
from tests.analytics.dashboard.test_cost import OTHERS, PERIOD, WHERE
from tests.support.demo_dashboard import ACME, OPERATOR, signed_in
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
COLUMNS = {"ttft": "ttft_ms", "queue": "queue_ms", "total": "total_ms"}
WHOLE = WHERE.replace("09:30", "09:00")  # a period is widened to whole hours
ENDPOINTS = ("quantiles", "pace", "whole")


async def ask(url: str, what: str, key: str = OPERATOR, **params: Any) -> dict[str, Any]:
    async with signed_in(url, key) as client:
        response = await client.get(f"/api/latency/{what}", params=PERIOD | {"until": "2026-11-21T09:00:00Z"} | params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("measure", COLUMNS)
@pytest.mark.parametrize("split", ["", "model", "lane"])
async def test_quantiles(demo: Demo, demo_dashboard: str, measure: str, split: str) -> None:
    rows = (await ask(demo_dashboard, "quantiles", measure=measure, split=split, resolution="day"))["rows"]
    statement = (
        f"SELECT toString(toDate(event_time)) AS day, {split or repr('')} AS part, count(), "
        f"arraySort(groupArray({COLUMNS[measure]})) FROM usage WHERE kind = 'usage' AND {WHOLE} GROUP BY day, part"
    )
    wanted = {row[:2]: row[2:] for row in map(tuple, demo[0].query(statement).result_rows)}
    found = {(row["day"], row[split] if split else ""): row for row in rows}
    assert found.keys() == wanted.keys()
    for place, (count, times) in wanted.items():
        assert found[place]["requests"] == count
        for name, level in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            assert between_neighbours(found[place][name], times, level)


def between_neighbours(found: float | None, times: Sequence[int], level: float) -> bool:
    """A quantile lies between two of the values, and a sketch within 1 % of it."""
    if not times:
        return found is None
    below = int(level * (len(times) - 1))
    above = min(below + 1, len(times) - 1)
    return found is not None and times[below] * 0.98 <= found <= times[above] * 1.02


async def test_tokens_per_second(demo: Demo, demo_dashboard: str) -> None:
    rows = (await ask(demo_dashboard, "pace", resolution="hour", split="model", model="large"))["rows"]
    statement = f"SELECT sum(completion_tokens) FROM usage WHERE kind = 'usage' AND model = 'large' AND {WHOLE}"
    assert sum(row["completion_tokens"] for row in rows) == demo[0].query(statement).result_rows[0][0]


@pytest.mark.parametrize("what", ENDPOINTS)
async def test_the_shown_statement_runs_and_says_the_same(
    demo: Demo, demo_dashboard: str, demo_settings: Settings, what: str
) -> None:
    answer = await ask(demo_dashboard, what, split="lane", lane="interactive", measure="gap")
    engine = QueryEngine(demo_settings)
    said = json.loads(engine.ask(Query(answer["sql"], "JSON")).body)["data"]
    engine.close()
    assert [int(row["requests"]) for row in said] == [row["requests"] for row in answer["rows"]] != []


@pytest.mark.parametrize("what", ENDPOINTS)
async def test_a_tenant_sees_only_itself(demo: Demo, demo_dashboard: str, what: str) -> None:
    rows = (await ask(demo_dashboard, what, ACME, split="model"))["rows"]
    statement = f"SELECT count() FROM usage WHERE kind = 'usage' AND tenant = 'acme' AND {WHOLE}"
    assert sum(row["requests"] for row in rows) == demo[0].query(statement).result_rows[0][0]
    async with signed_in(demo_dashboard, ACME) as client:
        for name in OTHERS:
            assert (await client.get(f"/api/latency/{what}", params={"tenant": name})).status_code == 403


@pytest.mark.parametrize(
    "params",
    [
        {"measure": "ttft_ms), sleep(3"},
        {"split": "tenant"},
        {"split": "model, user"},
        {"resolution": "month"},
        {"resolution": "second"},
        {"none": "tenant"},
        {"since": "yesterday"},
    ],
    ids=str,
)
async def test_hostile_questions_are_refused(demo_dashboard: str, params: dict[str, str]) -> None:
    async with signed_in(demo_dashboard, OPERATOR) as client:
        response = await client.get("/api/latency/quantiles", params=PERIOD | params)
    assert response.status_code == 400


async def test_a_hostile_value_is_only_a_value(demo_dashboard: str) -> None:
    for what in ENDPOINTS:
        assert (await ask(demo_dashboard, what, model="' OR 1 = 1 --"))["rows"] == []
