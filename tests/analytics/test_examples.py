"""The queries in docs/analytics.md run, find something, and ask the views' projections."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analytics.intake import take_in
from analytics.ledger import Ledger
from contracts.settings import Settings
from contracts.usage import UsageKind, adjustment_id
from tests.support.usage import as_records, as_values, as_waste, make_events

PAGE = (Path(__file__).parents[2] / "docs/analytics.md").read_text()
QUERIES = re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL)
VIEWS = {"cost_daily": "daily", "cost_hourly": "hourly", "cost_by_user": "users", "latency_hourly": "latency"}


@pytest.fixture(scope="module")
def ledger(engine_folder: Settings) -> Iterator[Ledger]:
    """Twenty days up to now, growing busier."""
    now = int(time.time() * 1000)
    events = make_events(3000, start=now - 20 * 86_400_000, step_ms=576_000)
    events += make_events(3000, seed=1, start=now - 5 * 86_400_000, step_ms=144_000)
    corrects = {"kind": UsageKind.ADJUSTMENT, "event_id": adjustment_id("any", 0), "cost_nano": -5, "reason": "dear"}
    rows = [*events, *[as_waste(event) for event in events[-40:] if event.model], events[0].model_copy(update=corrects)]
    ledger = Ledger.open(engine_folder.model_copy(update={"clickhouse_database": "examples"}))
    take_in(ledger, as_records(as_values(rows)))
    yield ledger
    ledger.client.command("DROP DATABASE examples SYNC")
    ledger.close()


def test_there_are_ten_or_more() -> None:
    assert len(QUERIES) >= 10


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: " ".join(query.split())[:50])
def test_an_example(ledger: Ledger, query: str) -> None:
    assert ledger.client.query(query).result_rows
    plan = "\n".join(line for (line,) in ledger.client.query(f"EXPLAIN {query}").result_rows)
    for view, projection in VIEWS.items():
        if f"FROM {view}" in query:
            assert f"ReadFromMergeTree ({projection})" in plan


def test_every_view_is_in_the_page_and_explains_its_columns(ledger: Ledger) -> None:
    names = "SELECT name FROM system.tables WHERE database = 'examples' AND engine = 'View'"
    views = [name for (name,) in ledger.client.query(names).result_rows]
    assert set(VIEWS) < set(views)
    for view in views:
        assert f"| `{view}` |" in PAGE
    silent = "SELECT table, name FROM system.columns WHERE database = 'examples' AND comment = ''"
    assert ledger.client.query(silent).result_rows == []
