"""FOCUS 1.2's rules for a cost and usage dataset, as far as they concern one without commitments and unit prices.

https://focus.finops.org/focus-specification/v1-2/: which columns must be there, their types, when they may be null,
which values are allowed, and how columns depend on each other.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

Row = Mapping[str, Any]
NOT_NULL = {  # mandatory, and never null
    "BilledCost": "decimal",
    "BillingAccountId": "string",
    "BillingCurrency": "string",
    "BillingPeriodEnd": "time",
    "BillingPeriodStart": "time",
    "ChargeCategory": "string",
    "ChargePeriodEnd": "time",
    "ChargePeriodStart": "time",
    "ContractedCost": "decimal",
    "EffectiveCost": "decimal",
    "InvoiceIssuerName": "string",
    "ListCost": "decimal",
    "ProviderName": "string",
    "PublisherName": "string",
    "ServiceCategory": "string",
    "ServiceName": "string",
}
NULLABLE = {  # mandatory, and null where the rules below let them be
    "BillingAccountName": "string",
    "ChargeClass": "string",
    "ChargeDescription": "string",
    "PricingQuantity": "decimal",
    "PricingUnit": "string",
}
OTHERS = {  # recommended or conditional
    "ChargeFrequency": "string",
    "ConsumedQuantity": "decimal",
    "ConsumedUnit": "string",
    "ResourceId": "string",
    "ResourceName": "string",
    "ResourceType": "string",
    "ServiceSubcategory": "string",
    "SkuId": "string",
    "Tags": "json",
}
TYPES = NOT_NULL | NULLABLE | OTHERS
ALLOWED = {
    "BillingCurrency": {"USD"},  # ISO 4217
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"Correction", None},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI"},
}
_CUSTOM = re.compile(r"x_[A-Z][A-Za-z0-9]*")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


def typed(row: Mapping[str, str]) -> dict[str, Any]:
    """A line of CSV as values. Raises AssertionError on a number or time written otherwise than the rules say."""
    return {name: _value(TYPES.get(name, "string"), text) for name, text in row.items()}


def faults(rows: list[Row]) -> list[str]:
    """What is against the rules; nothing when all is well."""
    if not rows:
        return ["no rows"]
    missing = (NOT_NULL | NULLABLE).keys() - rows[0].keys()
    unknown = [name for name in rows[0] if name not in TYPES and not _CUSTOM.fullmatch(name)]
    found = [f"{name} is missing" for name in sorted(missing)] + [f"{name} is no column" for name in unknown]
    return found + [f"row {number}: {fault}" for number, row in enumerate(rows) for fault in _of_row(row)]


def _value(kind: str, text: str) -> Any:
    if not text:
        return None
    if kind == "decimal":
        assert _NUMBER.fullmatch(text), text
        return Decimal(text)
    if kind == "time":
        assert _TIME.fullmatch(text), text
        return datetime.fromisoformat(text)
    return text


def _of_row(row: Row) -> Iterator[str]:
    for name in NOT_NULL:
        if row.get(name) is None:
            yield f"{name} is null"
    for name, kind in TYPES.items():
        if row.get(name) is not None and not isinstance(row[name], _PYTHON[kind]):
            yield f"{name} is {type(row[name]).__name__}"
    for name, values in ALLOWED.items():
        if name in row and row[name] not in values:
            yield f"{name} is {row[name]!r}"
    yield from _periods(row)
    yield from _quantities(row)
    yield from _names(row)


_PYTHON = {"decimal": Decimal, "time": datetime, "string": str, "json": str}


def _periods(row: Row) -> Iterator[str]:
    start, end = row["BillingPeriodStart"], row["BillingPeriodEnd"]
    if (start.day, start.hour, end.day, end.hour) != (1, 0, 1, 0) or start >= end:
        yield f"the billing period is {start} to {end}"
    if row["ChargePeriodStart"] >= row["ChargePeriodEnd"]:
        yield "the charge period is empty"
    inside = start <= row["ChargePeriodStart"] and row["ChargePeriodEnd"] <= end
    if inside != (row["ChargeClass"] is None):
        yield "a charge of another billing period is a correction, and no other is"


def _quantities(row: Row) -> Iterator[str]:
    needed = row["ChargeCategory"] in ("Usage", "Purchase") and row["ChargeClass"] != "Correction"
    for quantity, unit in (("PricingQuantity", "PricingUnit"), ("ConsumedQuantity", "ConsumedUnit")):
        if needed and row[quantity] is None:
            yield f"{quantity} is null"
        if (row[quantity] is None) != (row[unit] is None):
            yield f"{unit} without {quantity}, or the other way round"
    if needed and row["SkuId"] is None:
        yield "SkuId is null"
    if row["ChargeCategory"] == "Credit" and row["BilledCost"] > 0:
        yield "a credit that costs something"


def _names(row: Row) -> Iterator[str]:
    if row["ResourceId"] is None and (row["ResourceName"] or row["ResourceType"]):
        yield "a resource's name or type without its id"
    if row["Tags"] is not None and not all(isinstance(v, str) for v in json.loads(row["Tags"]).values()):
        yield "Tags is no object of strings"
