"""Cost: what the page is told equals plain SQL over the ledger; hostile questions get 400, tenants only their own."""

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics.clickhouse import Client
from analytics.dashboard.views import cost
from analytics.query_engine import Query, QueryEngine
from contracts.settings import Settings
from tests.support.demo_dashboard import ACME, OPERATOR, signed_in
from tests.support.demo_ledger import FEATURES, DemoLedger

Demo = tuple[Client, DemoLedger]
SINCE, UNTIL = "2026-10-28T00:00:00Z", "2026-11-21T09:30:00Z"
PERIOD = {"since": SINCE, "until": UNTIL}
WHERE = " AND ".join(
    f"event_time {sign} parseDateTime64BestEffort('{bound}', 3, 'UTC')" for sign, bound in ((">=", SINCE), ("<", UNTIL))
)
OTHERS = {feature.tenant for feature in FEATURES} - {"acme"}
ENDPOINTS = ("series", "groups", "totals", "requests", "budgets", "burndown", "savings")


async def ask(url: str, what: str, key: str = OPERATOR, **params: Any) -> dict[str, Any]:
    async with signed_in(url, key) as client:
        response = await client.get(f"/api/cost/{what}", params=PERIOD | params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def plain(demo: Demo, columns: str, rest: str = "") -> list[tuple[Any, ...]]:
    """Independent of the code under test, and of every projection."""
    statement = (
        f"SELECT {columns} FROM usage WHERE kind != 'waste' AND {WHERE} {rest} SETTINGS optimize_use_projections = 0"
    )
    return [tuple(row) for row in demo[0].query(statement).result_rows]


async def test_totals(demo: Demo, demo_dashboard: str) -> None:
    (row,) = (await ask(demo_dashboard, "totals"))["rows"]
    sums = "sum(cost_nano), countIf(kind = 'usage'), sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens)"
    names = ("cost_nano", "requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    ((nano, *counts),) = plain(demo, sums)
    assert [row[name] for name in names] == [str(nano), *counts]


@pytest.mark.parametrize("by", ["tenant", "feature", "user", "model", "route", "outcome", "tag:team", "tenant,model"])
async def test_groups_and_series(demo: Demo, demo_dashboard: str, by: str) -> None:
    columns = by.replace("tag:team", "tags['team']")
    wanted = {tuple(row[:-1]): row[-1] for row in plain(demo, f"{columns}, sum(cost_nano)", f"GROUP BY {columns}")}
    groups = await ask(demo_dashboard, "groups", by=by)
    names = groups["names"]
    found = {tuple(row[name] for name in names): int(row["cost_nano"]) for row in groups["rows"]}
    assert found == dict(sorted(wanted.items(), key=lambda item: -item[1])[:50])
    assert {(int(row["all_nano"]), row["all_groups"]) for row in groups["rows"]} == {
        (sum(wanted.values()), len(wanted))
    }
    series = (await ask(demo_dashboard, "series", by=by))["rows"]
    assert sum(int(row["cost_nano"]) for row in series) == sum(wanted.values())


async def test_a_filter(demo: Demo, demo_dashboard: str) -> None:
    only = {"user": "chloé", "tag": "team=product", "none": "reason"}
    async with signed_in(demo_dashboard, OPERATOR) as client:
        assert (await client.get("/api/cost/totals", params=PERIOD | only)).status_code == 400
    (row,) = (await ask(demo_dashboard, "totals", user="chloé", tag="team=product"))["rows"]
    assert row["cost_nano"] == str(
        plain(demo, "sum(cost_nano)", "AND user = 'chloé' AND tags['team'] = 'product'")[0][0]
    )
    (row,) = (await ask(demo_dashboard, "totals", none="user"))["rows"]
    assert row["cost_nano"] == str(plain(demo, "sum(cost_nano)", "AND user = ''")[0][0]) != "0"


async def test_a_bar_and_its_requests(demo: Demo, demo_dashboard: str) -> None:
    rows = (await ask(demo_dashboard, "series", by="feature", resolution="day"))["rows"]
    day = max((row for row in rows if row["feature"]), key=lambda row: int(row["cost_nano"]))
    since = datetime.fromisoformat(day["day"]).replace(tzinfo=UTC)
    bar = {"since": since.isoformat(), "until": (since + timedelta(days=1)).isoformat(), "feature": day["feature"]}
    found = await ask(demo_dashboard, "requests", **bar, format="json")
    assert isinstance(found, list)
    assert sum(row["cost_nano"] for row in found) == int(day["cost_nano"])
    page = (await ask(demo_dashboard, "requests", **bar))["rows"]
    assert [row["idempotency_key"] for row in page] == [row["idempotency_key"] for row in found[: len(page)]]


@pytest.mark.parametrize("what", [name for name in ENDPOINTS if name != "budgets"])
async def test_the_shown_statement_runs_and_says_the_same(
    demo: Demo, demo_dashboard: str, demo_settings: Settings, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(cost, "_now", lambda: demo[1].now)
    answer = await ask(demo_dashboard, what, by="user", tenant="acme", user="ann")
    engine = QueryEngine(demo_settings)
    said = json.loads(engine.ask(Query(answer["sql"], "JSON")).body)["data"]
    engine.close()
    if what == "burndown":
        spent = sum(int(row["cost_nano"]) for row in said if row["day"] >= "2026-11-01")
        assert spent == int(answer["about"]["used_nano"]) != 0
        return
    money = [name for name in answer["rows"][0] if name.endswith("_nano")]
    for name in [*money, *({"requests"} & answer["rows"][0].keys())]:
        assert [str(row[name]) for row in said] == [str(row[name]) for row in answer["rows"]]


async def test_files_have_every_row_and_whole_numbers(demo: Demo, demo_dashboard: str) -> None:
    wanted = dict(plain(demo, "user, sum(cost_nano)", "GROUP BY user"))
    async with signed_in(demo_dashboard, OPERATOR) as client:
        params = PERIOD | {"by": "user"}
        as_csv = await client.get("/api/cost/groups", params=params | {"format": "csv"})
        as_json = await client.get("/api/cost/groups", params=params | {"format": "json"})
    assert {row["user"]: int(row["cost_nano"]) for row in csv.DictReader(io.StringIO(as_csv.text))} == wanted
    assert {row["user"]: row["cost_nano"] for row in as_json.json()} == wanted
    assert "attachment" in as_csv.headers["content-disposition"]


async def test_budgets_and_what_is_left_of_one(
    demo: Demo, demo_dashboard: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "_now", lambda: demo[1].now)
    rows = (await ask(demo_dashboard, "budgets"))["rows"]
    month = "SELECT sum(cost_nano) FROM usage WHERE kind != 'waste' AND event_time >= toDateTime('2026-11-01', 'UTC')"

    def used(rest: str) -> str:
        return str(demo[0].query(f"{month} AND {rest}").result_rows[0][0])

    monthly = {(r["tenant"], r["feature"]): r for r in rows if r["figure"] == "dollars_per_month"}
    assert monthly["acme", None]["used_nano"] == used("tenant = 'acme'")
    assert monthly["acme", None]["limit_nano"] == "40000000000"
    assert monthly["initech", None]["limit_nano"] == "60000000000"
    one = monthly["acme", "contract-review"]
    assert one["used_nano"] == used("tenant = 'acme' AND feature = 'contract-review'")
    burned = await ask(demo_dashboard, "burndown", tenant="acme", feature="contract-review")
    assert burned["about"] == {name: one[name] for name in burned["about"]}
    last = next(row for row in reversed(burned["rows"]) if row["kind"] == "forecast")
    assert last["used_nano"] == one["forecast_nano"]
    assert int(last["left_nano"]) == 20_000_000_000 - int(one["forecast_nano"])


async def test_savings(demo: Demo, demo_dashboard: str) -> None:
    answer = await ask(demo_dashboard, "savings")
    assert answer["large"] == "large"
    assert {row["tenant"] for row in answer["rows"]} == {"acme", *OTHERS}
    assert all(int(row["cache_nano"]) > 0 and int(row["routing_nano"]) > 0 for row in answer["rows"])


@pytest.mark.parametrize("what", ENDPOINTS)
async def test_a_tenant_sees_only_itself(demo: Demo, demo_dashboard: str, what: str) -> None:
    async with signed_in(demo_dashboard, ACME) as client:
        for form in ("page", "csv"):
            response = await client.get(f"/api/cost/{what}", params=PERIOD | {"by": "tenant", "format": form})
            assert response.status_code == 200
            assert not [name for name in OTHERS if name in response.text]
        assert (await client.get(f"/api/cost/{what}", params={"tenant": "globex"})).status_code == 403


async def test_a_tenants_total_is_its_own(demo: Demo, demo_dashboard: str) -> None:
    (row,) = (await ask(demo_dashboard, "totals", ACME))["rows"]
    assert row["cost_nano"] == str(plain(demo, "sum(cost_nano)", "AND tenant = 'acme'")[0][0])


@pytest.mark.parametrize(
    ("what", "params"),
    [
        ("groups", {"by": "user) FROM usage --"}),
        ("groups", {"by": "day"}),
        ("groups", {"by": "tenant,user,model,route"}),
        ("groups", {"by": "tag:a b"}),
        ("series", {"resolution": "day, sleep(3)"}),
        ("series", {"resolution": "minute"}),
        ("requests", {"skip": "1; DROP TABLE usage"}),
        ("requests", {"skip": "-1"}),
        ("totals", {"since": "now() - 1"}),
        ("totals", {"none": "cost_nano = 0 OR user"}),
        ("totals", {"tag": "a b=c"}),
        ("totals", {"user": "x" * 256}),
        ("savings", {"large": "' OR 1 = 1 --"}),
        ("groups", {"format": "sql"}),
    ],
    ids=str,
)
async def test_hostile_questions_are_refused(demo_dashboard: str, what: str, params: dict[str, str]) -> None:
    async with signed_in(demo_dashboard, OPERATOR) as client:
        response = await client.get(f"/api/cost/{what}", params=PERIOD | params)
    assert response.status_code == 400
    assert "Exception" not in response.text


@pytest.mark.parametrize("value", ["' OR 1 = 1 --", "\\' OR 1 = 1 --", "') OR ('a' = 'a", "{tenant:String}", "%"])
async def test_a_hostile_value_is_only_a_value(demo_dashboard: str, demo_settings: Settings, value: str) -> None:
    answer = await ask(demo_dashboard, "requests", user=value, feature=value)
    assert answer["rows"] == []
    engine = QueryEngine(demo_settings)
    assert engine.ask(Query(answer["sql"])).body == b""
    engine.close()


async def test_an_empty_day_is_no_row(demo_dashboard: str) -> None:
    before = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-08T00:00:00Z"}
    assert (await ask(demo_dashboard, "series", **before))["rows"] == []
