"""Reprice: what a period's requests would cost by another price table, to the nano-dollar, as settle would have it.

A row is never edited: the difference becomes an adjustment, a usage event of its own at the time of the request that it
is about. What has been adjusted before counts, so doing it twice changes nothing. A model that the table has no price
for keeps its cost. Blocking.
"""

# ruff: noqa: S608 - our own words; what is asked for travels as parameters

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from analytics.clickhouse import Client
from analytics.questions import utc_ms
from contracts.outcomes import Outcome
from contracts.prices import Price, PriceTable
from contracts.usage import UsageEvent, UsageKind, adjustment_id

_BILLED = ", ".join(f"'{outcome.value}'" for outcome in Outcome if outcome.billed)
_SINCE, _UNTIL = (f"fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')" for name in ("since", "until"))
PERIOD = f"event_time >= {_SINCE} AND event_time < {_UNTIL}"
_DAYS = f"""
SELECT model, model_version, toDate(event_time) AS day FROM usage
WHERE kind IN ('usage', 'waste') AND {PERIOD} GROUP BY model, model_version, day
"""
PRICES = """
SELECT
    p.1 AS model, p.2 AS model_version, toDate(p.3) AS day, 1 AS priced,
    p.4 AS input, p.5 AS cached_input, p.6 AS output, p.7 AS request
FROM (
    SELECT arrayJoin(arrayZip(
        {models:Array(String)}, {versions:Array(String)}, {days:Array(String)},
        {inputs:Array(Int64)}, {cached:Array(Int64)}, {outputs:Array(Int64)}, {requests:Array(Int64)}
    )) AS p
)
"""


def cost_sql(
    fresh: str = "input", cached: str = "cached_input", output: str = "output", request: str = "request"
) -> str:
    """contracts.prices.Price.cost, in 128 bits, by the columns that have the prices."""
    return f"""if(outcome IN ({_BILLED}), {request} + toInt64(intDiv(
    toInt128(toInt64(prompt_tokens) - toInt64(cached_tokens)) * {fresh} + toInt128(cached_tokens) * {cached}
    + toInt128(completion_tokens) * {output} + 500000, 1000000)), 0)"""


COST = cost_sql()
_ROWS = f"""
SELECT *, toDate(event_time) AS day FROM usage WHERE kind IN ('usage', 'adjustment') AND {PERIOD}
"""
_DIFFERENCES = f"""
SELECT
    tenant, countIf(kind = 'usage'), countIf(kind = 'usage' AND priced = 0), sum(cost_nano),
    sum(multiIf(priced = 0, cost_nano, kind = 'usage', {COST}, 0))
FROM ({_ROWS}) AS rows LEFT JOIN ({PRICES}) AS prices USING (model, model_version, day)
GROUP BY tenant ORDER BY tenant
"""
_ADJUSTED = f"""
SELECT about AS event_id, sum(cost_nano) AS so_far, count() AS times FROM usage
WHERE kind = 'adjustment' AND {PERIOD} GROUP BY about
"""
_CHANGED = f"""
SELECT * EXCEPT (priced, input, cached_input, output, request, so_far, day),
    {COST} - cost_nano - so_far AS difference
FROM ({_ROWS}) AS rows INNER JOIN ({PRICES}) AS prices USING (model, model_version, day)
LEFT JOIN ({_ADJUSTED}) AS adjusted USING (event_id)
WHERE kind = 'usage' AND difference != 0
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """One tenant's requests. Nano-dollars; `unpriced` requests keep their cost."""

    tenant: str
    requests: int
    unpriced: int
    cost_nano: int
    new_nano: int

    @property
    def difference_nano(self) -> int:
        return self.new_nano - self.cost_nano


@dataclass(frozen=True, slots=True)
class Repricing:
    """Half-open: [since, until)."""

    prices: PriceTable
    since: datetime
    until: datetime

    def differences(self, client: Client) -> list[Difference]:
        """Raises ClickHouseError."""
        parameters = self._parameters(client, self.since, self.until)
        return [Difference(*row) for row in client.query(_DIFFERENCES, parameters=parameters).result_rows]

    def adjustments(self, client: Client, now: datetime, reason: str) -> Iterator[UsageEvent]:
        """One for each request that costs something else; a day at a time. Raises ClickHouseError."""
        for since, until in _by_day(self.since, self.until):
            parameters = self._parameters(client, since, until)
            if not parameters["models"]:  # nothing ran on that day, or nothing that has a price
                continue
            for row in client.query(_CHANGED, parameters=parameters).named_results():
                yield self._adjustment(row, utc_ms(now), reason)

    def _adjustment(self, row: dict[str, Any], now: int, reason: str) -> UsageEvent:
        return UsageEvent(
            **about(row),
            event_time=utc_ms(row["event_time"]),
            event_id=adjustment_id(row["event_id"], row["times"]),
            kind=UsageKind.ADJUSTMENT,
            accepted_at=now,
            deduped_at=now,
            finished_at=now,
            price_version=self.prices.version,
            cost_nano=row["difference"],
            reason=reason,
        )

    def _parameters(self, client: Client, since: datetime, until: datetime) -> dict[str, Any]:
        return price_parameters(client, self.prices.find, since, until)


Find = Callable[[str, str, int], Price | None]  # by model, version and time, UTC ms


def price_parameters(client: Client, find: Find, since: datetime, until: datetime) -> dict[str, Any]:
    """For PERIOD, and for PRICES: the prices of all models, versions and days that the period has. Blocking. Raises
    ClickHouseError."""
    period = {"since": utc_ms(since), "until": utc_ms(until)}
    groups = client.query(_DAYS, parameters=period).result_rows
    found = [(*group, price) for group in groups if (price := find(group[0], group[1], _midnight(group[2])))]
    return period | {
        "models": [row[0] for row in found],
        "versions": [row[1] for row in found],
        "days": [row[2].isoformat() for row in found],
        "inputs": [row[3].input for row in found],
        "cached": [row[3].cached_input for row in found],
        "outputs": [row[3].output for row in found],
        "requests": [row[3].request for row in found],
    }


def _midnight(day: date) -> int:
    return utc_ms(datetime(day.year, day.month, day.day, tzinfo=UTC))


# What an adjustment has from its request: whose it was and what for; no tokens and no times, which count once.
_KEPT = (
    "tenant",
    "idempotency_key",
    "claim",
    "user",
    "feature",
    "tags",
    "api_key_id",
    "operation",
    "requested_model",
    "model",
    "model_version",
    "engine",
    "lane",
    "route",
    "router_version",
    "outcome",
    "status",
    "streamed",
)


def about(row: dict[str, Any]) -> dict[str, Any]:
    """What an event that is about the request of this row has from it."""
    return {name: row[name] for name in _KEPT} | {"about": row["event_id"]}


def _by_day(since: datetime, until: datetime) -> Iterator[tuple[datetime, datetime]]:
    start = since
    while start < until:
        midnight = start.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        yield start, min(midnight, until)
        start = midnight
