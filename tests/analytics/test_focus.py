"""The FOCUS export follows the specification and adds up to the ledger."""

import csv
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from analytics.focus import COLUMNS, FocusExport
from analytics.intake import take_in
from analytics.ledger import Ledger
from analytics.reports import CostReport
from contracts.errors import InvalidRequest
from contracts.settings import Settings
from contracts.usage import UsageEvent, UsageKind, adjustment_id
from millrace.focus_file import write_focus
from tests.support.focus import faults, typed
from tests.support.usage import as_records, as_values, as_waste, make_events

EVENTS = make_events(2000, step_ms=1_800_000)  # 9 October to 20 November
OCTOBER, NOVEMBER = FocusExport(date(2025, 10, 1)), FocusExport(date(2025, 11, 1), "Acme Ltd")
BOOKED = int(datetime(2025, 11, 9, 12, tzinfo=UTC).timestamp() * 1000)


def about(event: UsageEvent, kind: UsageKind, nano: int, number: int = 0) -> UsageEvent:
    nothing = dict.fromkeys(("prompt_tokens", "cached_tokens", "completion_tokens", "engine_us"), 0)
    booked = dict.fromkeys(("accepted_at", "deduped_at", "finished_at"), BOOKED)
    later = {"event_time": BOOKED} if kind is UsageKind.CREDIT else {}
    ids = {"event_id": adjustment_id(event.event_id, number), "about": event.event_id}
    said = {"kind": kind, "cost_nano": nano, "reason": 'because, "so"', "price_version": "next"}
    return event.model_copy(update=nothing | booked | later | ids | said)


BILLED = [event for event in EVENTS if event.outcome.billed]
CORRECTIONS = [
    about(BILLED[0], UsageKind.ADJUSTMENT, 17),  # of October, made in November
    about(BILLED[-1], UsageKind.ADJUSTMENT, -5),  # of November
    about(BILLED[3], UsageKind.CREDIT, -1_000_000_001, 1),
    about(BILLED[4], UsageKind.CREDIT, -2, 1).model_copy(
        update={"model": "", "model_version": "", "operation": "", "tags": {}, "feature": ""}
    ),
]


@pytest.fixture(scope="module")
def ledger(engine_folder: Settings) -> Iterator[Ledger]:
    ledger = Ledger.open(engine_folder.model_copy(update={"clickhouse_database": "focus"}))
    take_in(ledger, as_records(as_values([*EVENTS, *[as_waste(e) for e in BILLED[:9]], *CORRECTIONS])))
    yield ledger
    ledger.client.command("DROP DATABASE focus SYNC")
    ledger.close()


@pytest.mark.parametrize("export", [OCTOBER, NOVEMBER], ids=["October", "November"])
def test_it_follows_the_rules_as_csv_and_as_parquet(ledger: Ledger, tmp_path: Path, export: FocusExport) -> None:
    rows = list(export.rows(ledger.client))
    for name in ("month.csv", "month.parquet"):
        assert write_focus(rows, tmp_path / name) == len(rows)
    with (tmp_path / "month.csv").open(newline="") as file:
        from_csv = [typed(row) for row in csv.DictReader(file)]
    from_parquet = pq.read_table(tmp_path / "month.parquet").to_pylist()
    assert tuple(from_csv[0]) == tuple(from_parquet[0]) == COLUMNS
    for dataset in (from_csv, from_parquet):
        assert faults(dataset) == []
    assert [costs(row) for row in from_csv] == [costs(row) for row in from_parquet] == [costs(row) for row in rows]


def costs(row: dict[str, Any]) -> list[Any]:
    return [value for value in row.values() if isinstance(value, Decimal)]


def test_it_adds_up_to_the_ledger(ledger: Ledger) -> None:
    months = [list(export.rows(ledger.client)) for export in (OCTOBER, NOVEMBER)]
    (everything,) = CostReport(()).lines(ledger.client)
    assert sum(row["BilledCost"] for month in months for row in month) * 10**9 == everything.cost_nano
    october = [e for e in BILLED if datetime.fromtimestamp(e.event_time / 1000, UTC).month == 10]
    assert sum(row["BilledCost"] for row in months[0]) * 10**9 == sum(e.cost_nano for e in october)
    assert sum(row["x_Requests"] for row in months[0]) == len(october)
    tokens = sum(e.prompt_tokens + e.completion_tokens for e in october)
    assert sum(row["PricingQuantity"] for row in months[0]) == tokens


def test_what_corrects_an_earlier_month_is_of_the_month_in_which_it_was_made(ledger: Ledger) -> None:
    rows = list(NOVEMBER.rows(ledger.client))
    (late,) = [row for row in rows if row["ChargeClass"] == "Correction"]
    assert (late["ChargeCategory"], late["BilledCost"]) == ("Adjustment", Decimal("0.000000017"))
    assert late["ChargePeriodStart"].date() == date(2025, 10, 9)
    assert late["BillingPeriodStart"].date() == date(2025, 11, 1)
    categories = [row["ChargeCategory"] for row in rows]
    assert (categories.count("Adjustment"), categories.count("Credit")) == (2, 2)
    assert {row["InvoiceIssuerName"] for row in rows} == {"Acme Ltd"}


def test_the_checker_finds_what_is_wrong(ledger: Ledger) -> None:
    good = next(OCTOBER.rows(ledger.client))
    for change in (
        {"BilledCost": None},
        {"BilledCost": 1.5},
        {"ChargeCategory": "Refund"},
        {"ChargeClass": "Correction"},
        {"PricingUnit": None},
        {"Tokens": 1},
        {"BillingPeriodEnd": good["BillingPeriodStart"]},
    ):
        assert faults([good | change]), change


@pytest.mark.parametrize("month", ["2026", "2026-13", "November", "2026-11-01"])
def test_what_is_no_month(month: str) -> None:
    with pytest.raises(InvalidRequest):
        FocusExport.of(month, "Millrace")
