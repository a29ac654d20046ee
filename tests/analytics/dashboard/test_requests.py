"""Requests: what the page is told is the ledger's, by key, filters and pages; one request's life, step by step."""

import csv
import io
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from analytics.clickhouse import Client
from contracts.settings import Settings
from tests.support.busy_desk import RUNNING, BusyDesk
from tests.support.demo_dashboard import ACME, OPERATOR, serving_demo, signed_in
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
PERIOD = {"since": "2026-11-15T00:00:00Z", "until": "2026-11-18T00:00:00Z"}
WHERE = "kind = 'usage' AND event_time >= '2026-11-15 00:00:00' AND event_time < '2026-11-18 00:00:00'"


@pytest.fixture(scope="module")
async def operator(demo: Demo, demo_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving_demo(demo_settings, BusyDesk()) as url, signed_in(url, OPERATOR) as client:
        yield client


async def found(client: httpx.AsyncClient, **params: Any) -> list[dict[str, Any]]:
    response = await client.get("/api/requests/list", params=PERIOD | params)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["rows"]
    return rows


def plain(demo: Demo, columns: str, rest: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in demo[0].query(f"SELECT {columns} FROM usage WHERE {WHERE} {rest}").result_rows]


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"tenant": "acme"},
        {"outcome": "failed"},
        {"user": "ann"},
        {"model": "large", "lane": "batch"},
        {"tenant": "globex", "feature": "code-assistant"},
    ],
)
async def test_the_newest_first_with_what_was_asked(
    demo: Demo, operator: httpx.AsyncClient, filters: dict[str, str]
) -> None:
    rows = await found(operator, limit=100, **filters)
    where = " ".join(f"AND {name} = '{value}'" for name, value in filters.items())
    wanted = plain(
        demo,
        "idempotency_key, cost_nano, toUnixTimestamp64Milli(event_time)",
        f"{where} ORDER BY event_time DESC, event_id LIMIT 100",
    )
    assert [(row["idempotency_key"], row["cost_nano"], row["event_time"]) for row in rows] == wanted


async def test_pages_cover_everything_once(demo: Demo, operator: httpx.AsyncClient) -> None:
    keys: list[str] = []
    until = PERIOD["until"]
    for _ in range(100):
        response = (await operator.get("/api/requests/list", params=PERIOD | {"until": until, "limit": "1000"})).json()
        keys += [row["idempotency_key"] for row in response["rows"]]
        if not response["more"]:
            break
        until = _iso(response["rows"][-1]["event_time"])
    everything = {key for (key,) in plain(demo, "idempotency_key", "")}
    assert set(keys) <= everything
    assert len(everything - set(keys)) <= len(everything) // 1000  # of one millisecond, at a page's end


async def test_a_key_is_found_in_all_times_and_by_its_beginning(demo: Demo, operator: httpx.AsyncClient) -> None:
    client, _ = demo
    old = client.query("SELECT idempotency_key FROM usage WHERE kind = 'usage' ORDER BY event_time LIMIT 1").result_rows
    assert [row["idempotency_key"] for row in await found(operator, key=old[0][0])] == [old[0][0]]
    ((some,),) = plain(demo, "idempotency_key", "LIMIT 1")
    rows = await found(operator, key=some[:-2], limit=1000)
    assert some in {row["idempotency_key"] for row in rows}
    assert all(row["idempotency_key"].startswith(some[:-2]) for row in rows)


async def test_a_download_has_the_rows(demo: Demo, operator: httpx.AsyncClient) -> None:
    rows = await found(operator, limit=20)
    response = await operator.get("/api/requests/list", params=PERIOD | {"limit": 20, "format": "csv"})
    assert response.headers["content-disposition"] == 'attachment; filename="millrace-requests-list.csv"'
    told = list(csv.DictReader(io.StringIO(response.text)))
    assert [(row["idempotency_key"], int(row["cost_nano"])) for row in told] == [
        (row["idempotency_key"], row["cost_nano"]) for row in rows
    ]


async def test_the_shown_statement_gives_the_rows(demo: Demo, operator: httpx.AsyncClient) -> None:
    response = (await operator.get("/api/requests/list", params=PERIOD | {"tenant": "acme", "limit": 20})).json()
    again = list(demo[0].query(response["sql"]).named_results())
    assert [row["idempotency_key"] for row in again][:20] == [row["idempotency_key"] for row in response["rows"]]


async def test_one_requests_life(demo: Demo, operator: httpx.AsyncClient) -> None:
    [row] = (
        demo[0]
        .query(f"SELECT * FROM usage WHERE {WHERE} AND outcome = 'succeeded' AND first_token_at IS NOT NULL LIMIT 1")
        .named_results()
    )
    key = {"tenant": row["tenant"], "key": row["idempotency_key"]}
    told = (await operator.get("/api/requests/one", params=key)).json()
    steps = told["life"]["runs"][0]["steps"]
    names = ["accepted", "deduped", "admitted", "started", "first_token", "finished", "billed", "stored"]
    assert [step["step"] for step in steps] == names
    columns = [*(f"{name}_at" for name in names[:6]), "event_time", "inserted_at"]
    assert [step["at"] for step in steps] == [round(row[column].timestamp() * 1000) for column in columns]
    assert steps[-1]["total_ms"] == sum(step["took_ms"] for step in steps)
    assert steps[0]["note"] == f"requests {row['claim']}"
    assert steps[-1]["note"] == f"{row['topic']} {row['partition']}.{row['offset']}"
    assert f"complexity {row['complexity']:.3f}" in steps[2]["note"]


async def test_what_still_runs_is_asked_of_the_streams_without_its_answer(operator: httpx.AsyncClient) -> None:
    response = await operator.get(
        "/api/requests/one", params={"tenant": RUNNING.tenant, "key": RUNNING.idempotency_key}
    )
    assert response.json()["state"]["status"] == "in_progress"
    assert "secret" not in response.text


async def test_a_tenant_finds_no_request_of_another(demo: Demo, demo_settings: Settings) -> None:
    ((key,),) = plain(demo, "idempotency_key", "AND tenant = 'globex' LIMIT 1")
    async with serving_demo(demo_settings, BusyDesk()) as url, signed_in(url, ACME) as client:
        assert (await client.get("/api/requests/one", params={"key": key})).status_code == 404
        assert (await client.get("/api/requests/one", params={"key": key, "tenant": "globex"})).status_code == 403
        assert await found(client, key=key) == []


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
