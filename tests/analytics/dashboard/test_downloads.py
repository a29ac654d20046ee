"""What a page shows can be taken away: each endpoint's rows, all of them, as CSV and as JSON."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from analytics.clickhouse import Client
from analytics.dashboard.views import VIEWS, cost
from contracts.settings import Settings
from tests.analytics.dashboard.test_cost import PERIOD
from tests.support.busy_desk import BusyDesk
from tests.support.demo_dashboard import OPERATOR, serving_demo, signed_in
from tests.support.demo_ledger import DemoLedger

Demo = tuple[Client, DemoLedger]
PATHS = [f"{view.id}/{one.name}" for view in VIEWS for one in view.endpoints if one.method == "GET"]
NOTHING = {"routing/escalations", "routing/shadows"}  # in this ledger


@pytest.fixture(scope="module")
async def operator(demo: Demo, demo_settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with serving_demo(demo_settings, BusyDesk()) as url, signed_in(url, OPERATOR) as client:
        yield client


@pytest.fixture
def params(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Time stands still: a forecast is another one a second later."""
    monkeypatch.setattr(cost, "_now", lambda: demo[1].now)
    (event, *_) = demo[1].events
    return PERIOD | {"key": event.idempotency_key}


@pytest.mark.parametrize("path", [path for path in PATHS if path != "requests/list"])
async def test_all_rows_of_a_view(operator: httpx.AsyncClient, params: dict[str, str], path: str) -> None:
    shown: list[dict[str, Any]] = (await operator.get(f"/api/{path}", params=params)).json()["rows"]
    as_json, as_csv = [await operator.get(f"/api/{path}", params=params | {"format": name}) for name in ("json", "csv")]
    for answer, name in ((as_json, "json"), (as_csv, "csv")):
        assert answer.status_code == httpx.codes.OK
        file = f"millrace-{path.replace('/', '-')}.{name}"
        assert answer.headers["content-disposition"] == f'attachment; filename="{file}"'
    rows, lines = as_json.json(), list(csv.DictReader(io.StringIO(as_csv.text)))
    assert len(lines) == len(rows) >= len(shown)
    assert bool(shown) == (path not in NOTHING)
    for row, line in zip(rows, lines, strict=True):
        assert row.keys() <= line.keys()
        assert {name: line[name] for name, value in row.items() if isinstance(value, int) and not _is_time(name)} == {
            name: str(value) for name, value in row.items() if isinstance(value, int) and not _is_time(name)
        }


def _is_time(name: str) -> bool:
    """Milliseconds in JSON, ISO 8601 in CSV."""
    return name == "at" or name.endswith(("_at", "_time", "ends", "minute", "hour"))
