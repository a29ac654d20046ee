"""FOCUS 1.2: the ledger of a month as a cost and usage dataset, a row per day, tenant, feature, tags, model and price.

https://focus.finops.org/focus-specification/v1-2/. A tenant is a billing account, a model a resource, its version a
SKU. A charge sums input, cached and output tokens, which have a price each, so it names no unit price. An adjustment
belongs to the month in which it was made and keeps its day: a month that has been invoiced never changes. Money is
decimal dollars with nine places, exact. Columns of ours begin with `x_`, as the specification asks.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

from analytics.clickhouse import Client
from contracts.errors import InvalidRequest
from contracts.outcomes import Outcome
from contracts.usage import UsageKind

_BILLED = ", ".join(f"'{outcome.value}'" for outcome in Outcome if outcome.billed)
_CHARGES = f"""
SELECT
    toDate(event_time) AS day, tenant, feature, tags, model, model_version, price_version, kind, reason,
    count() AS requests, sum(prompt_tokens) AS prompt, sum(cached_tokens) AS cached,
    sum(completion_tokens) AS completion, sum(cost_nano) AS nano
FROM usage
WHERE kind IN ('usage', 'adjustment', 'credit') AND outcome IN ({_BILLED})
    AND toDate(if(kind = 'adjustment', accepted_at, event_time)) >= {{first:Date}}
    AND toDate(if(kind = 'adjustment', accepted_at, event_time)) < {{next:Date}}
GROUP BY day, tenant, feature, tags, model, model_version, price_version, kind, reason
ORDER BY day, tenant, feature, model, model_version, price_version, kind, reason, tags
"""
_CATEGORY = {UsageKind.USAGE: "Usage", UsageKind.ADJUSTMENT: "Adjustment", UsageKind.CREDIT: "Credit"}
_SERVICE = {"ServiceCategory": "AI and Machine Learning", "ServiceSubcategory": "Generative AI"}

# In the specification's order, by name; then ours.
COLUMNS = (
    "BilledCost",
    "BillingAccountId",
    "BillingAccountName",
    "BillingCurrency",
    "BillingPeriodEnd",
    "BillingPeriodStart",
    "ChargeCategory",
    "ChargeClass",
    "ChargeDescription",
    "ChargeFrequency",
    "ChargePeriodEnd",
    "ChargePeriodStart",
    "ConsumedQuantity",
    "ConsumedUnit",
    "ContractedCost",
    "EffectiveCost",
    "InvoiceIssuerName",
    "ListCost",
    "PricingQuantity",
    "PricingUnit",
    "ProviderName",
    "PublisherName",
    "ResourceId",
    "ResourceName",
    "ResourceType",
    "ServiceCategory",
    "ServiceName",
    "ServiceSubcategory",
    "SkuId",
    "Tags",
    "x_Feature",
    "x_InputTokens",
    "x_CachedInputTokens",
    "x_OutputTokens",
    "x_Requests",
    "x_PriceVersion",
)


@dataclass(frozen=True, slots=True)
class FocusExport:
    """`month`: its first day, UTC. `issuer`: who provides, publishes and invoices."""

    month: date
    issuer: str = "Millrace"

    @classmethod
    def of(cls, month: str, issuer: str) -> "FocusExport":
        """`2026-11`. Raises InvalidRequest."""
        try:
            first = date.fromisoformat(f"{month}-01")
        except ValueError:
            raise InvalidRequest(f"{month!r} is no month: write 2026-11.", param="month") from None
        return cls(first, issuer)

    def rows(self, client: Client) -> Iterator[dict[str, Any]]:
        """One dictionary per charge, with every column. Blocking. Raises ClickHouseError."""
        period = {"first": self.month.isoformat(), "next": _next_month(self.month).isoformat()}
        for charge in client.query(_CHARGES, parameters=period).named_results():
            row = self._row(charge)
            yield {name: row[name] for name in COLUMNS}

    def _row(self, charge: dict[str, Any]) -> dict[str, Any]:
        used = charge["kind"] == UsageKind.USAGE
        tokens = Decimal(charge["prompt"] + charge["completion"]) if used else None
        unit = "Tokens" if used else None
        return (
            _SERVICE
            | dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), _dollars(charge["nano"]))
            | dict.fromkeys(("InvoiceIssuerName", "ProviderName", "PublisherName"), self.issuer)
            | dict.fromkeys(("ConsumedQuantity", "PricingQuantity"), tokens)
            | dict.fromkeys(("ConsumedUnit", "PricingUnit"), unit)
            | self._account(charge)
            | _sku(charge)
            | {
                "ChargeCategory": _CATEGORY[charge["kind"]],
                "ChargeClass": "Correction" if charge["day"] < self.month else None,
                "ChargeDescription": _description(charge),
                "ChargeFrequency": "Usage-Based" if used else "One-Time",
                "ServiceName": "LLM inference",
                "Tags": orjson.dumps(charge["tags"], option=orjson.OPT_SORT_KEYS).decode(),
                "x_Feature": charge["feature"] or None,
                "x_InputTokens": charge["prompt"],
                "x_CachedInputTokens": charge["cached"],
                "x_OutputTokens": charge["completion"],
                "x_Requests": charge["requests"] if used else 0,
                "x_PriceVersion": charge["price_version"] or None,
            }
        )

    def _account(self, charge: dict[str, Any]) -> dict[str, Any]:
        day = charge["day"]
        return {
            "BillingAccountId": charge["tenant"],
            "BillingAccountName": charge["tenant"],
            "BillingCurrency": "USD",
            "BillingPeriodStart": _midnight(self.month),
            "BillingPeriodEnd": _midnight(_next_month(self.month)),
            "ChargePeriodStart": _midnight(day),
            "ChargePeriodEnd": _midnight(day + timedelta(days=1)),
        }


def _sku(charge: dict[str, Any]) -> dict[str, Any]:
    model = charge["model"] or None
    return {
        "ResourceId": model,
        "ResourceName": model,
        "ResourceType": "Model" if model else None,
        "SkuId": f"{model}/{charge['model_version']}" if model else None,
    }


def _description(charge: dict[str, Any]) -> str:
    if charge["kind"] == UsageKind.USAGE:
        return f"Inference by {charge['model']} {charge['model_version']}"
    return charge["reason"] or str(charge["kind"]).capitalize()


def _dollars(nano: int) -> Decimal:
    return Decimal(nano).scaleb(-9)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _next_month(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)
