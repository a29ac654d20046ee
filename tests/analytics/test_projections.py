"""Each common question is answered from its projection, and the projection says what the rows say."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from analytics.clickhouse import Client, connect
from analytics.intake import take_in
from analytics.latency import LatencyReport
from analytics.ledger import Ledger
from analytics.migrate import migrate, migrations
from analytics.reports import CostReport, request_rows
from contracts.settings import Settings
from tests.support.until import until
from tests.support.usage import as_records, as_values, as_waste, make_events

EVENTS = make_events(40_000, step_ms=60_000)  # four weeks
EVENTS += [as_waste(event) for event in EVENTS if event.model][::100]
FIRST = datetime.fromtimestamp(EVENTS[0].event_time / 1000, UTC)
SINCE, UNTIL = FIRST + timedelta(days=2, hours=5, minutes=7, seconds=3.456), FIRST + timedelta(days=21, hours=1.3)
ROWS = "projections.usage"


@pytest.fixture(scope="module")
def filled(engine_folder: Settings) -> Iterator[Client]:
    settings = engine_folder.model_copy(update={"clickhouse_database": "projections"})
    ledger = Ledger.open(settings)
    for start in range(0, len(EVENTS), 10_000):
        take_in(ledger, as_records(as_values(EVENTS[start : start + 10_000]), first_offset=start))
    yield ledger.client
    ledger.client.command("DROP DATABASE projections SYNC")
    ledger.close()


def sources(client: Client, statement: str, parameters: dict[str, Any]) -> list[str]:
    """What is read, as the plan says it."""
    plan = client.query(f"EXPLAIN {statement}", parameters=parameters).result_rows
    found = [line.partition("ReadFromMergeTree (")[2] for (line,) in plan if "ReadFromMergeTree" in line]
    return [name.rstrip(")") for name in found]


# With the projection that is made for it; ClickHouse may find another one that knows the same to be smaller.
REPORTS: dict[str, tuple[CostReport | LatencyReport, str]] = {
    "cost by tenant": (CostReport(("tenant",)), "hourly"),
    "cost by tenant and hour": (CostReport(("tenant", "hour")), "hourly"),
    "cost by tenant and month": (CostReport(("tenant", "month")), "daily"),
    "cost of one tenant": (CostReport((), only={"tenant": "tenant-3"}), "hourly"),
    "cost by tenant, feature, model, version and day": (
        CostReport(("tenant", "feature", "model", "model_version", "day")),
        "daily",
    ),
    "cost by model and month": (CostReport(("model", "month")), "daily"),
    "top users": (CostReport(("tenant", "user")), "users"),
    "a tenant's users by day": (CostReport(("user", "day"), only={"tenant": "tenant-3"}), "users"),
    "latency by model and hour": (LatencyReport(("model", "hour")), "latency"),
    "latency by lane": (LatencyReport(("lane",)), "latency"),
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_common_question_reads_its_projection_alone(filled: Client, name: str) -> None:
    report, projection = REPORTS[name]
    (read,) = sources(filled, *report.sql())
    assert read in ALIKE.get(name, {projection})


ALIKE = {name: {"hourly", "daily"} for name in ("cost by tenant", "cost of one tenant")}
COSTS = [name for name in REPORTS if not name.startswith("latency")]
UNITS = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "users": timedelta(days=1)}


@pytest.mark.parametrize("name", COSTS)
def test_of_a_period_only_its_ends_are_read_from_the_rows(filled: Client, name: str) -> None:
    report, projection = REPORTS[name]

    def read(since: datetime, until: datetime) -> list[str]:
        return sources(filled, *CostReport(report.by, since, until, report.only).sql())

    midnight = datetime(SINCE.year, SINCE.month, SINCE.day, tzinfo=UTC)
    assert read(SINCE, UNTIL) == [projection, ROWS, ROWS]
    assert read(midnight, midnight + 3 * UNITS[projection]) == [projection]
    assert read(SINCE, SINCE + timedelta(minutes=1)) == [ROWS]


def test_latency_of_a_period_reads_its_projection_alone(filled: Client) -> None:
    assert sources(filled, *LatencyReport(("model", "hour"), SINCE, UNTIL).sql()) == ["latency"]


def test_an_unforeseen_question_reads_the_rows(filled: Client) -> None:
    assert sources(filled, *CostReport(("tenant", "route")).sql()) == [ROWS]


OFF = "SETTINGS optimize_use_projections = 0"


@pytest.mark.parametrize("name", COSTS)
@pytest.mark.parametrize("period", [(None, None), (SINCE, UNTIL), (SINCE, None), (None, UNTIL)], ids=str)
def test_the_answer_is_that_of_the_rows(filled: Client, name: str, period: tuple[Any, Any]) -> None:
    report, _ = REPORTS[name]
    statement, parameters = CostReport(report.by, *period, report.only).sql()
    by_projection = filled.query(statement, parameters=parameters).result_rows
    assert set(sources(filled, f"{statement} {OFF}", parameters)) == {ROWS}
    by_rows = filled.query(f"{statement} {OFF}", parameters=parameters).result_rows
    assert by_projection == by_rows != []


def test_a_request_is_looked_for_where_the_filter_on_its_key_says(filled: Client) -> None:
    some = EVENTS[23_456]
    statement = "EXPLAIN indexes = 1 SELECT * FROM usage WHERE idempotency_key = {key:String}"
    plan = filled.query(statement, parameters={"key": some.idempotency_key}).result_rows
    _, _, by_key = "\n".join(line for (line,) in plan).partition("Name: by_key")
    found = re.search(r"Granules: (\d+)/(\d+)", by_key)
    assert found
    assert int(found[1]) == 1 < int(found[2])
    assert [row["event_id"] for row in request_rows(filled, some.idempotency_key)] == [some.event_id]


def test_quantiles_are_within_a_hundredth(filled: Client) -> None:
    (line,) = LatencyReport((), only={"model": "small"}).lines(filled)
    some = [e for e in EVENTS if e.kind == "usage" and e.model == "small"]
    assert line.requests == len(some)
    assert line.ttft_ms == pytest.approx((53, 53, 53), rel=0.011)
    assert line.total_ms == pytest.approx((880, 880, 880), rel=0.011)


async def test_rows_from_before_the_migration_are_in_the_projections_too(embedded: Settings, filled: Client) -> None:
    """A ledger of the first version, with rows, brought up to date."""
    with connect(embedded) as client:
        first = migrations()[0]
        client.command("CREATE DATABASE {name:Identifier} ENGINE = Atomic", {"name": embedded.clickhouse_database})
        client.database = embedded.clickhouse_database
        for statement in first.statements:
            client.command(statement)
        columns = ", ".join(f"`{row[0]}`" for row in client.query("DESCRIBE usage").result_rows if row[2] != _MADE)
        client.command(f"INSERT INTO usage ({columns}) SELECT {columns} FROM projections.usage")
        migrate(client, embedded)
        waiting = "SELECT count() FROM system.mutations WHERE database = currentDatabase() AND NOT is_done"

        async def done() -> bool:
            return list(client.query(waiting).result_rows) == [(0,)]

        await until(done)
        for report, _ in REPORTS.values():
            (read,) = sources(client, *report.sql())
            assert read != ROWS
        report = CostReport(("tenant", "user"))
        assert report.lines(client) == report.lines(filled)


_MADE = "MATERIALIZED"
