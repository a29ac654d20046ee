"""A FOCUS dataset as CSV or Parquet. Decimals are plain digits, times ISO 8601 in UTC, and null is an empty field."""

import csv
import io
import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from analytics.focus import COLUMNS

_COSTS = ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost")
_QUANTITIES = ("ConsumedQuantity", "PricingQuantity")
_COUNTS = ("x_InputTokens", "x_CachedInputTokens", "x_OutputTokens", "x_Requests")
_TIMES = ("BillingPeriodEnd", "BillingPeriodStart", "ChargePeriodEnd", "ChargePeriodStart")


def write_focus(rows: Iterable[Mapping[str, Any]], output: Path | None) -> int:
    """How many there were."""
    known = list(rows)
    if output and output.suffix.lower() == ".parquet":
        _parquet(known, output)
    elif output:
        output.write_text(_csv(known))
    else:
        sys.stdout.write(_csv(known))
    return len(known)


def _csv(rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _text(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, datetime) else value


def _parquet(rows: list[Mapping[str, Any]], output: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415 - takes a quarter of a second
    import pyarrow.parquet as pq  # noqa: PLC0415

    def kind(name: str) -> Any:
        if name in _COSTS:
            return pa.decimal128(38, 9)
        if name in _QUANTITIES:
            return pa.decimal128(38, 0)
        if name in _TIMES:
            return pa.timestamp("ms", tz="UTC")
        return pa.int64() if name in _COUNTS else pa.string()

    schema = pa.schema([(name, kind(name)) for name in COLUMNS])
    pq.write_table(pa.table({name: [row[name] for row in rows] for name in COLUMNS}, schema=schema), output)
