"""What the ledger is asked: cost by any of its dimensions, and one request's life. Money is integer nano-dollars.

SQL is put together from this file's own words; what a caller gives travels as a parameter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from analytics.clickhouse import Client
from contracts.errors import InvalidRequest
from contracts.prices import NANO

DIMENSIONS = {
    "tenant": "tenant",
    "user": "user",
    "feature": "feature",
    "model": "model",
    "model_version": "model_version",
    "api_key_id": "api_key_id",
    "route": "route",
    "outcome": "outcome",
    "lane": "lane",
    "hour": "toStartOfHour(event_time)",
    "day": "toDate(event_time)",
    "month": "toStartOfMonth(event_time)",
}
_TIMES = ("hour", "day", "month")

# Waste is never billed: it is counted apart.
_MEASURES = {
    "requests": "countIf(kind = 'usage')",
    "prompt_tokens": "sumIf(prompt_tokens, kind = 'usage')",
    "cached_tokens": "sumIf(cached_tokens, kind = 'usage')",
    "completion_tokens": "sumIf(completion_tokens, kind = 'usage')",
    "cost_nano": "sumIf(cost_nano, kind != 'waste')",
    "waste_runs": "countIf(kind = 'waste')",
    "waste_tokens": "sumIf(prompt_tokens + completion_tokens, kind = 'waste')",
    "waste_engine_us": "sumIf(engine_us, kind = 'waste')",
}

_REQUEST = """
SELECT *, queue_ms, ttft_ms, total_ms
FROM usage
WHERE idempotency_key = {key:String} AND (tenant = {tenant:String} OR {tenant:String} = '')
ORDER BY tenant, kind, event_time
"""


@dataclass(frozen=True, slots=True)
class CostLine:
    """Tokens and nano-dollars of one group; `group` has one value per dimension asked for."""

    group: tuple[str | date | datetime, ...]
    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost_nano: int = 0
    waste_runs: int = 0
    waste_tokens: int = 0
    waste_engine_us: int = 0

    def __add__(self, other: "CostLine") -> "CostLine":
        """The sum, without a group."""
        return CostLine((), *(getattr(self, name) + getattr(other, name) for name in _MEASURES))


@dataclass(frozen=True, slots=True)
class CostReport:
    """Half-open: [since, until), by when the outcome was recorded. Raises InvalidRequest on an unknown dimension."""

    by: tuple[str, ...]
    since: datetime | None = None
    until: datetime | None = None

    def __post_init__(self) -> None:
        for name in self.by:
            if name not in DIMENSIONS:
                raise InvalidRequest(f"Cost can be split by {', '.join(DIMENSIONS)}; not by {name}.", param="by")
        if len(set(self.by)) != len(self.by):
            raise InvalidRequest("Each dimension can be named once.", param="by")

    def sql(self) -> tuple[str, dict[str, Any]]:
        """The statement and its parameters."""
        groups = [DIMENSIONS[name] for name in self.by]
        parameters: dict[str, Any] = {}
        where = []
        for name, sign, bound in (("since", ">=", self.since), ("until", "<", self.until)):
            if bound:
                where.append(f"event_time {sign} fromUnixTimestamp64Milli({{{name}:Int64}}, 'UTC')")
                parameters[name] = utc_ms(bound)
        statement = f"SELECT {', '.join((*groups, *_MEASURES.values()))} FROM usage"  # noqa: S608 - our own words
        if where:
            statement += f" WHERE {' AND '.join(where)}"
        if groups:
            times = [DIMENSIONS[name] for name in self.by if name in _TIMES]
            order = [*times, f"{_MEASURES['cost_nano']} DESC", *groups]
            statement += f" GROUP BY {', '.join(groups)} ORDER BY {', '.join(order)}"
        return statement, parameters

    def lines(self, client: Client) -> list[CostLine]:
        """Blocking. By time where that was asked, then the most expensive first. Raises ClickHouseError."""
        statement, parameters = self.sql()
        width = len(self.by)
        rows = client.query(statement, parameters=parameters).result_rows
        return [CostLine(tuple(row[:width]), *row[width:]) for row in rows]


def total(lines: Sequence[CostLine]) -> CostLine:
    return sum(lines, CostLine(()))


def request_rows(client: Client, key: str, tenant: str = "") -> list[dict[str, Any]]:
    """Blocking: the rows of a request, and of its wasted runs; of every tenant that used the key when none is named.
    Raises ClickHouseError."""
    return list(client.query(_REQUEST, parameters={"key": key, "tenant": tenant}).named_results())


def dollars(nano: int, digits: int = 9) -> str:
    """Exact with 9 digits; fewer must be enough for the number."""
    whole, rest = divmod(abs(nano), NANO)
    return f"{'-' if nano < 0 else ''}{whole}.{rest:09d}"[: len(str(whole)) + (nano < 0) + 1 + digits]


def utc_ms(moment: datetime) -> int:
    return round(moment.astimezone(UTC).timestamp() * 1000)
